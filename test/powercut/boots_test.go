package powercut

import (
	"errors"
	"testing"
)

// TestTap: a disk knows what was read of it, and refuses reads until it is told otherwise.
func TestTap(t *testing.T) {
	d := newTap(newDisk(nothing{}, 1<<20))
	buf := make([]byte, 1000)
	_, err := d.ReadAt(buf, 3*sector)
	must(t, err)
	for _, c := range []struct {
		part extentOf
		want bool
	}{
		{extentOf{3 * sector, 2 * sector}, true},
		{extentOf{3 * sector, 1}, true},
		{extentOf{2 * sector, 2 * sector}, false},
		{extentOf{4 * sector, sector + 1}, false},
	} {
		if got := d.hasRead([]extentOf{c.part}); got != c.want {
			t.Errorf("%+v was read: %v, want %v", c.part, got, c.want)
		}
	}
	d.refuse()
	for range 2 {
		if _, err := d.ReadAt(buf, 0); !errors.Is(err, errRefused) {
			t.Errorf("a read while reads are refused: %v", err)
		}
	}
	select {
	case <-d.refused:
	default:
		t.Error("nobody is told that a read was refused")
	}
	if d.hasRead([]extentOf{{0, sector}}) {
		t.Error("a read that was refused counts as one")
	}
	d.allow()
	if _, err := d.ReadAt(buf, 0); err != nil {
		t.Errorf("a read after the end of refusing: %v", err)
	}
}

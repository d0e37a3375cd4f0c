package boot

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// notReady is firmware that cannot try a partition.
type notReady struct{ firmware }

func (notReady) ready() error { return errors.New("the loader is too old") }

func TestReady(t *testing.T) {
	d := newPi(t)
	s := d.store()
	if err := errors.Join(Ready(s, true), Ready(s, false)); err != nil {
		t.Error(err)
	}
	s.firmware = notReady{s.firmware}
	if err := Ready(s, true); err == nil || !strings.Contains(err.Error(), "too old") {
		t.Errorf("old firmware: %v", err)
	}
	if err := Ready(s, false); err != nil {
		t.Errorf("old firmware and the same image: %v", err)
	}
	if d.events > 0 {
		t.Errorf("%d writes", d.events)
	}
}

func TestReadyOfFlash(t *testing.T) {
	t.Parallel()
	b := newBoard(t, true, true)
	before := maps.Clone(b.memory)
	for name, data := range before {
		before[name] = append([]byte(nil), data...)
	}
	if err := Ready(b.store(true), false); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(before, b.memory); diff != "" {
		t.Error("the memory was changed")
	}
	delete(b.memory, "fitB")
	if err := Ready(b.store(true), false); err == nil || !strings.Contains(err.Error(), "fitB") {
		t.Errorf("without a slot: %v", err)
	}
}

func TestReadyOfFile(t *testing.T) {
	t.Parallel()
	for _, loader := range []string{"grub", "uboot"} {
		s, err := Open(loader, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if err := Ready(s, true); err != nil {
			t.Errorf("%s: %v", loader, err)
		}
	}
}

package uevent

import (
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	tests := []struct {
		name string
		in   string
		want Event
		ok   bool
	}{
		{"disk", "add@/devices/vda\x00ACTION=add\x00SUBSYSTEM=block\x00DEVNAME=vda\x00",
			Event{"add", "/devices/vda", map[string]string{"ACTION": "add", "SUBSYSTEM": "block", "DEVNAME": "vda"}}, true},
		{"value with equals sign", "change@/x\x00A=b=c\x00", Event{"change", "/x", map[string]string{"A": "b=c"}}, true},
		{"line without value", "add@/x\x00LONE\x00", Event{"add", "/x", map[string]string{}}, true},
		{"udev's own header", "libudev\x00\xfe\xed\xca\xfe", Event{}, false},
		{"no path", "add@", Event{}, false},
		{"no action", "@/x", Event{}, false},
		{"empty", "", Event{}, false},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got, ok := parse([]byte(tc.in))
			if ok != tc.ok {
				t.Fatalf("ok = %v, want %v", ok, tc.ok)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("event (-want +got):\n%s", diff)
			}
		})
	}
}

// The kernel repeats a device's event when "add" is written to its uevent file.
func TestListenSeesAnEvent(t *testing.T) {
	const trigger = "/sys/devices/virtual/mem/null/uevent"
	f, err := os.OpenFile(trigger, os.O_WRONLY, 0)
	if err != nil {
		t.Skipf("needs root and a writable /sys: %v", err)
	}
	defer f.Close()
	c, err := Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := f.WriteString("change"); err != nil {
		t.Skipf("the kernel refuses to repeat an event: %v", err)
	}
	for {
		e, err := c.Next()
		if err != nil {
			t.Fatal(err)
		}
		if e.Path == "/devices/virtual/mem/null" && e.Env["DEVNAME"] == "null" {
			return
		}
	}
}

func TestCloseWakesNext(t *testing.T) {
	c, err := Listen()
	if err != nil {
		t.Skipf("no netlink here: %v", err)
	}
	done := make(chan error, 1)
	go func() {
		for {
			if _, err := c.Next(); err != nil && !errors.Is(err, ErrLost) {
				done <- err
				return
			}
		}
	}()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, os.ErrClosed) {
		t.Errorf("Next after Close: %v, want os.ErrClosed", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("add@/devices/vda\x00ACTION=add\x00"))
	f.Add([]byte("\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, ok := parse(b)
		if ok && (e.Action == "" || e.Path == "" || e.Path[0] != '/') {
			t.Errorf("accepted %q as %+v", b, e)
		}
	})
}

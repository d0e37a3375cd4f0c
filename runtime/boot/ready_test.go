package boot

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/formats/autoboot"
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
	s = d.store()
	pi := s.firmware.(raspberry)
	pi.answers = func() error { return errors.New("no mailbox") }
	s.firmware = pi
	if err := Ready(s, true); err == nil || !strings.Contains(err.Error(), "no mailbox") {
		t.Errorf("a kernel that cannot ask the firmware: %v", err)
	}
}

func TestReadyOfEFI(t *testing.T) {
	d := newPC(t)
	if err := Ready(d.store(), true); err != nil {
		t.Error(err)
	}
	d.write("p1", fatImage(t, map[string]string{autoboot.FileName: autoboot.Choice{Default: 2, Try: 3}.BlockText()}))
	if err := Ready(d.store(), true); err == nil || !strings.Contains(err.Error(), autoboot.OnceFile) {
		t.Errorf("a loader without the file that asks it: %v", err)
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
	s := b.store(true)
	s.flash.B = s.flash.A
	if err := Ready(s, false); err == nil || !strings.Contains(err.Error(), `both slots are "fitA"`) {
		t.Errorf("one slot: %v", err)
	}
}

// readOnly mounts a read-only file system at a directory.
func readOnly(t *testing.T, dir string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	if err := errors.Join(os.MkdirAll(dir, 0o755), unix.Mount("none", dir, "tmpfs", unix.MS_RDONLY, "size=4k")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
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
		readOnly(t, filepath.Dir(s.(*file).path))
		if err := Ready(s, true); err == nil || !strings.Contains(err.Error(), "cannot be written: read-only file system") {
			t.Errorf("%s on a read-only file system: %v", loader, err)
		}
	}
}

package flash_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/flash"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/oracle"
)

// attach makes a disk of a file, with partitions.
func attach(t *testing.T, size int64, args ...string) (file, device string) {
	t.Helper()
	if control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0); err != nil {
		t.Skipf("no loop devices: %v", err)
	} else {
		_ = control.Close()
	}
	file = filepath.Join(t.TempDir(), "backing")
	write(t, file, bytes.Repeat([]byte("old!"), int(size)/4))
	args = append([]string{"--show", "-fP"}, append(args, file)...)
	out, err := exec.Command(oracle.Program(t, "losetup"), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("losetup: %v: %s", err, out)
	}
	device = strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "-d", device).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	return file, device
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(oracle.Program(t, name), args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

// TestDiskIsWritten: with the table of before erased, and what is not mapped left alone.
func TestDiskIsWritten(t *testing.T) {
	t.Parallel()
	file, device := attach(t, imageSize+2*mib)
	image, want := newImage(t, true)
	if _, err := run(t, image, device, flash.Options{}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range extents {
		if !bytes.Equal(got[e.Offset:e.Offset+e.Length], want[e.Offset:e.Offset+e.Length]) {
			t.Errorf("bytes from %d differ", e.Offset)
		}
	}
	if string(got[2*mib:][:4]) != "old!" || string(got[imageSize+mib:][:4]) != "old!" {
		t.Error("blocks that are not mapped were written")
	}
	for _, at := range []int{512 << 10, len(got) - 64<<10, len(got) - 512} {
		if !bytes.Equal(got[at:at+512], make([]byte, 512)) {
			t.Errorf("what was at %d is there still: %.4q", at, got[at:])
		}
	}
}

func TestDisksThatAreNotOverwritten(t *testing.T) {
	t.Parallel()
	image, _ := newImage(t, true)
	refused := func(what, device string, kind fault.Kind, want string) {
		t.Helper()
		_, err := run(t, image, device, flash.Options{})
		if fault.Of(err) != kind || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: kind %v: %v", what, fault.Of(err), err)
		}
	}
	small, device := attach(t, imageSize-mib)
	refused("too small", device, fault.NoSpace, "the disk has 5 MiB, the image needs 6 MiB")
	_, device = attach(t, 4*imageSize, "--sector-size=4096")
	refused("large sectors", device, fault.Unsupported, "4096")
	_, device = attach(t, imageSize, "-r")
	refused("read-only", device, fault.BadInput, "read-only")

	big, device := attach(t, 4*imageSize)
	command(t, "sgdisk", "-Z", device)
	command(t, "sgdisk", "-n", "1:0:0", device)
	command(t, "partx", "-u", device)
	refused("partition", device+"p1", fault.BadInput, "name the whole disk, "+device)
	command(t, "mke2fs", "-q", device+"p1")
	point := t.TempDir()
	command(t, "mount", device+"p1", point)
	refused("mounted", device, fault.BadInput, "mounted on "+point)
	command(t, "umount", point)

	claimed := claim(t, device+"p1")
	refused("claimed", device, fault.BadInput, "something uses the disk")
	_ = claimed.Close()
	for _, file := range []string{small, big} {
		f, err := os.ReadFile(file)
		if err != nil || !slices.Equal(f[2*mib:2*mib+4], []byte("old!")) && file == small {
			t.Errorf("%s was written to: %v", file, err)
		}
	}
}

// claim opens a disk as a file system or another driver does. A mount namespace that another
// process made while it was mounted keeps it busy for a while.
func claim(t *testing.T, device string) *os.File {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		f, err := os.OpenFile(device, os.O_RDONLY|os.O_EXCL, 0)
		if err == nil {
			return f
		}
		if !errors.Is(err, syscall.EBUSY) || time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// TestDisksOfThisMachine: what is listed exists, and what is mounted is not usable.
func TestDisksOfThisMachine(t *testing.T) {
	t.Parallel()
	disks, err := flash.Disks()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range disks {
		if info, err := os.Stat(d.Path); err == nil && info.Mode().Type() != os.ModeDevice {
			t.Errorf("%s is not a disk", d.Path)
		}
		if d.Size <= 0 || strings.HasPrefix(d.Name, "loop") {
			t.Errorf("%+v is not a disk", d)
		}
		if usable := d.Usable() == nil; usable != (len(d.Uses) == 0 && !d.ReadOnly) {
			t.Errorf("%+v: usable is %v", d, usable)
		}
	}
}

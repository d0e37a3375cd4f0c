package flash_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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
	r, err := run(t, image, device, flash.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !r.Direct || r.Stale != nil {
		t.Errorf("%+v: not past the cache", r)
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

// TestOddImageOnDisk: the end of an image that is no whole sector goes through the cache.
func TestOddImageOnDisk(t *testing.T) {
	t.Parallel()
	file, device := attach(t, imageSize)
	name, data := filepath.Join(t.TempDir(), "disk.img"), bytes.Repeat([]byte("new!"), (2*mib+4096+100)/4)
	write(t, name, data)
	if _, err := run(t, name, device, flash.Options{}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(got[:len(data)], data) || string(got[len(data):len(data)+4]) != "old!" {
		t.Errorf("the disk differs: %v", err)
	}
}

// TestLookAtDisk: everything that a user should see before it is lost.
func TestLookAtDisk(t *testing.T) {
	t.Parallel()
	_, device := attach(t, 64*mib)
	command(t, "sgdisk", "-Z", device)
	command(t, "sgdisk", "-n", "1:0:+16M", "-c", "1:first part", "-n", "2:0:+40M", device)
	command(t, "partx", "-u", device)
	command(t, "mkfs.vfat", "-n", "BOOT", device+"p1")
	command(t, "mke2fs", "-q", "-L", "pvroot", device+"p2")
	point := filepath.Join(t.TempDir(), "a b")
	if err := os.Mkdir(point, 0o755); err != nil {
		t.Fatal(err)
	}
	command(t, "mount", device+"p2", point)
	c, err := flash.Look(device)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Base(device)
	var got []string
	for _, v := range c.Volumes {
		got = append(got, v.String())
	}
	want := []string{name + `p1, 16 MiB, partition "first part", FAT, label "BOOT"`, name + `p2, 40 MiB, ext, label "pvroot"`}
	if told, err := os.ReadFile("/sys/class/block/" + name + "p1/uevent"); err != nil || !strings.Contains(string(told), "PARTNAME=") {
		want[0] = strings.ReplaceAll(want[0], `, partition "first part"`, "") // partx does not tell the kernel names
	}
	if !slices.Equal(got, want) || c.Size != 64*mib || c.Permanent || c.System || c.Mark != nil {
		t.Errorf("%+v: %q, want %q", c, got, want)
	}
	if !slices.Equal(c.Uses, []string{"mounted on " + point}) {
		t.Errorf("uses: %q", c.Uses)
	}
	busy, err := os.Create(filepath.Join(point, "open"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Unmount(); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "a program uses a file below "+point) {
		t.Errorf("busy: %v", err)
	}
	_ = busy.Close()
	if err := c.Unmount(); err != nil {
		t.Error(err)
	}
	if c, err = flash.Look(device); err != nil || len(c.Uses) > 0 {
		t.Errorf("unmounted: %+v, %v", c, err)
	}
	if _, err := flash.Look(device + "p1"); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "name the whole disk") {
		t.Errorf("a partition: %v", err)
	}
	for path, kind := range map[string]fault.Kind{"/dev/no-such-disk": fault.Missing, "/dev/null": fault.BadInput, point: fault.BadInput} {
		if _, err := flash.Look(path); fault.Of(err) != kind {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestKilledOnDisk: a disk whose writer was killed is known as incomplete, has no partitions,
// and is written whole by the next run.
func TestKilledOnDisk(t *testing.T) {
	t.Parallel()
	_, device := attach(t, imageSize)
	image, data := newImage(t, true)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killedImage+"="+image, killedMedium+"="+device)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe() // it waits for an answer that never comes
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Error(err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	c, err := flash.Look(device)
	if err != nil || c.Mark == nil || c.Mark.Image != "disk.img" || c.Mark.Size != imageSize || len(c.Volumes) > 0 {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := run(t, image, device, flash.Options{}); err != nil {
		t.Fatal(err)
	}
	if c, err = flash.Look(device); err != nil || c.Mark != nil {
		t.Errorf("written again: %+v, %v", c, err)
	}
	disk, err := os.ReadFile(device)
	if err != nil || !bytes.Equal(disk[:4096], data[:4096]) {
		t.Errorf("the disk differs: %v", err)
	}
}

func TestDisksThatAreNotOverwritten(t *testing.T) {
	t.Parallel()
	image, _ := newImage(t, true)
	// ends are what erasing a table overwrites: the first MiB and the last 64 KiB.
	ends := func(file string) []byte {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return slices.Concat(data[:mib], data[len(data)-64<<10:])
	}
	refused := func(what, file, device string, kind fault.Kind, want string) {
		t.Helper()
		before := ends(file)
		_, err := run(t, image, device, flash.Options{})
		if fault.Of(err) != kind || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "incomplete") {
			t.Errorf("%s: kind %v: %v", what, fault.Of(err), err)
		}
		if !bytes.Equal(ends(file), before) {
			t.Errorf("%s: %s was written to", what, file)
		}
	}
	file, device := attach(t, imageSize-mib)
	refused("too small", file, device, fault.NoSpace, "the disk has 5 MiB, the image needs 6 MiB")
	file, device = attach(t, 4*imageSize, "--sector-size=4096")
	refused("large sectors", file, device, fault.Unsupported, "4096")
	file, device = attach(t, imageSize, "-r")
	refused("read-only", file, device, fault.BadInput, "read-only")

	file, device = attach(t, 4*imageSize)
	command(t, "sgdisk", "-Z", device)
	command(t, "sgdisk", "-n", "1:0:0", device)
	command(t, "partx", "-u", device)
	refused("partition", file, device+"p1", fault.BadInput, "name the whole disk, "+device)
	command(t, "mke2fs", "-q", device+"p1")
	point := t.TempDir()
	command(t, "mount", device+"p1", point)
	refused("mounted", file, device, fault.BadInput, "mounted on "+point)
	command(t, "umount", point)

	claimed := claim(t, device+"p1")
	refused("claimed", file, device, fault.BadInput, "something uses the disk")
	_ = claimed.Close()
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
	mounts, err := os.ReadFile("/proc/self/mounts")
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
		mounted := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(d.Path) + `(p?[0-9]+)? `)
		if mounted.Match(mounts) && fault.Of(d.Usable()) != fault.BadInput {
			t.Errorf("%+v is mounted, and it is usable: %v", d, d.Usable())
		}
	}
}

// TestAnotherDisk: the one that was shown has gone, and another one has its path.
func TestAnotherDisk(t *testing.T) {
	t.Parallel()
	_, shown := attach(t, imageSize+2*mib)
	file, device := attach(t, imageSize+2*mib)
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c, err := flash.Look(shown)
	if err != nil {
		t.Fatal(err)
	}
	image, _ := newImage(t, true)
	if _, err := run(t, image, device, flash.Options{Disk: &c.Disk}); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "another disk") {
		t.Errorf("%v", err)
	}
	if after, err := os.ReadFile(file); err != nil || !bytes.Equal(after, before) {
		t.Errorf("the other disk was written: %v", err)
	}
	if _, err := run(t, image, filepath.Join(t.TempDir(), "file"), flash.Options{Disk: &c.Disk}); fault.Of(err) != fault.BadInput {
		t.Errorf("a file instead of a disk: %v", err)
	}
	if _, err := run(t, image, shown, flash.Options{Disk: &c.Disk}); err != nil {
		t.Errorf("the disk that was shown: %v", err)
	}
}

// TestLoopOfDisk: a loop device of a disk is one of its users, which the kernel does not list.
func TestLoopOfDisk(t *testing.T) {
	t.Parallel()
	_, device := attach(t, imageSize+2*mib)
	out, err := exec.Command(oracle.Program(t, "losetup"), "--show", "-f", device).Output()
	if err != nil {
		t.Fatalf("losetup: %v", err)
	}
	above := strings.TrimSpace(string(out))
	defer command(t, "losetup", "-d", above)
	c, err := flash.Look(device)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(c.Uses, "part of "+filepath.Base(above)) {
		t.Errorf("%q", c.Uses)
	}
	if err := c.Unmount(); fault.Of(err) != fault.BadInput {
		t.Errorf("unmounting: %v", err)
	}
}

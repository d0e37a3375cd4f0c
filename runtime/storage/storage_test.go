package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/formats/ext4"
	"github.com/pantavisor/pantavisor/internal/oracle"
)

// tool runs a system tool and returns its output; without it the test is skipped.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	oracle.Need(t, name)
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for loop devices and mounts")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skipf("needs loop devices: %v", err)
	}
}

// image makes an empty file of so many MiB.
func image(t *testing.T, mib int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, mib<<20); err != nil {
		t.Fatal(err)
	}
	return path
}

func probeFile(t *testing.T, path string) Super {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s, ok, err := probe(f)
	if err != nil || !ok {
		t.Fatalf("probing: found %v, %v", ok, err)
	}
	return s
}

func TestProbe(t *testing.T) {
	const id = "01234567-89ab-cdef-0123-456789abcdef"
	tests := []struct {
		make []string
		want Super
	}{
		{[]string{"mke2fs", "-q", "-t", "ext4", "-b", "4096", "-L", "pvroot", "-U", id}, Super{Type: "ext4", Label: "pvroot", UUID: id, Blocks: 16384, Block: 4096}},
		{[]string{"mke2fs", "-q", "-t", "ext4", "-O", "^64bit,^metadata_csum", "-b", "1024", "-L", "sixteen-letters!", "-U", id}, Super{Type: "ext4", Label: "sixteen-letters!", UUID: id, Blocks: 65536, Block: 1024}},
		{[]string{"mke2fs", "-q", "-t", "ext3", "-b", "1024", "-U", id}, Super{Type: "ext3", UUID: id, Blocks: 65536, Block: 1024}},
		{[]string{"mke2fs", "-q", "-t", "ext2", "-b", "1024", "-U", id}, Super{Type: "ext2", UUID: id, Blocks: 65536, Block: 1024}},
		{[]string{"mkfs.vfat", "-F", "32", "-n", "PVBOOT", "-i", "ABCD1234"}, Super{Type: "vfat", Label: "PVBOOT", UUID: "ABCD-1234"}},
		{[]string{"mkfs.vfat", "-F", "16", "-i", "00000042"}, Super{Type: "vfat", UUID: "0000-0042"}},
		{[]string{"mkswap", "-L", "pages", "-U", id}, Super{Type: "swap", Label: "pages", UUID: id}},
	}
	for _, tc := range tests {
		t.Run(strings.Join(tc.make[:4], " "), func(t *testing.T) {
			path := image(t, 64)
			tool(t, tc.make[0], append(tc.make[1:], path)...)
			if diff := cmp.Diff(tc.want, probeFile(t, path)); diff != "" {
				t.Errorf("superblock (-want +got):\n%s", diff)
			}
		})
	}
}

func TestProbeErrorsFlag(t *testing.T) {
	path := image(t, 8)
	tool(t, "mke2fs", "-q", "-t", "ext4", path)
	tool(t, "debugfs", "-w", "-R", "ssv state 2", path)
	if s := probeFile(t, path); !s.Errors {
		t.Errorf("%+v: errors flag not seen", s)
	}
}

func TestProbeNothing(t *testing.T) {
	for _, content := range [][]byte{nil, {1}, bytes.Repeat([]byte{0xFF}, 1<<17)} {
		if s, ok, err := probe(bytes.NewReader(content)); ok || err != nil {
			t.Errorf("%d bytes: %+v, %v, %v, want nothing", len(content), s, ok, err)
		}
	}
}

func FuzzProbe(f *testing.F) {
	f.Add([]byte("hsqs"))
	f.Add(append(make([]byte, 510), 0x55, 0xAA))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, ok, err := probe(bytes.NewReader(b)); err != nil || ok && s.Type == "" {
			t.Errorf("%+v, %v, %v", s, ok, err)
		}
	})
}

const grownSize = 96 << 20

// gptImage makes a disk with a boot and a root partition and grows the file.
func gptImage(t *testing.T, args ...string) *os.File {
	t.Helper()
	path := image(t, 64)
	args = append([]string{"-n", "1:2048:+16M", "-t", "1:ef00", "-c", "1:pvboot",
		"-n", "2:0:0", "-t", "2:8300", "-c", "2:pvroot", "-U", "R"}, args...)
	tool(t, "sgdisk", append(args, path)...)
	if err := os.Truncate(path, grownSize); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// without returns what sgdisk says of a partition, but its size and end.
func without(t *testing.T, path string, n int) string {
	t.Helper()
	var keep []string
	for _, l := range strings.Split(tool(t, "sgdisk", "-i", fmt.Sprint(n), path), "\n") {
		if !strings.HasPrefix(l, "Last sector") && !strings.HasPrefix(l, "Partition size") {
			keep = append(keep, l)
		}
	}
	return strings.Join(keep, "\n")
}

func TestGrowGPT(t *testing.T) {
	f := gptImage(t)
	before := []string{without(t, f.Name(), 1), without(t, f.Name(), 2)}
	last, grown, err := growTable(f, 2, grownSize, 512)
	if err != nil || !grown {
		t.Fatalf("grown %v, %v", grown, err)
	}
	if want := uint64(grownSize/512 - 2048 - 1); last != want {
		t.Errorf("last block %d, want %d", last, want)
	}
	if out := tool(t, "sgdisk", "-v", f.Name()); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk -v:\n%s", out)
	}
	if diff := cmp.Diff(before, []string{without(t, f.Name(), 1), without(t, f.Name(), 2)}); diff != "" {
		t.Errorf("partitions changed (-before +after):\n%s", diff)
	}
	if _, again, err := growTable(f, 2, grownSize, 512); again || err != nil {
		t.Errorf("second growth: %v, %v, want nothing to do", again, err)
	}
}

func TestGrowGPTLeavesOthers(t *testing.T) {
	f := gptImage(t)
	if _, grown, err := growTable(f, 1, grownSize, 512); grown || err != nil {
		t.Errorf("first partition: %v, %v, want untouched", grown, err)
	}
	if _, grown, err := growTable(f, 3, grownSize, 512); grown || err != nil {
		t.Errorf("missing partition: %v, %v, want untouched", grown, err)
	}
}

// A cutter is a disk that loses power after some writes.
type cutter struct {
	*os.File
	left int
}

var errCut = errors.New("power cut")

func (c *cutter) WriteAt(b []byte, off int64) (int, error) {
	if c.left--; c.left < 0 {
		return 0, errCut
	}
	return c.File.WriteAt(b, off)
}

func TestGrowGPTSurvivesPowerCuts(t *testing.T) {
	pristine, err := os.ReadFile(gptImage(t).Name())
	if err != nil {
		t.Fatal(err)
	}
	const size, writes = grownSize, 7
	for cut := 0; cut <= writes; cut++ {
		path := filepath.Join(t.TempDir(), "disk")
		if err := os.WriteFile(path, pristine, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = growTable(&cutter{f, cut}, 2, size, 512)
		if got := errors.Is(err, errCut); got != (cut < writes) {
			t.Errorf("cut after %d writes: %v", cut, err)
		}
		if _, err := readGPT(f, size, 512); err != nil {
			t.Errorf("primary table after a cut behind write %d: %v", cut, err)
		}
		if _, _, err := growTable(f, 2, size, 512); err != nil {
			t.Errorf("growing again after a cut behind write %d: %v", cut, err)
		}
		if cut > 0 && cut < writes-1 { // the table was left half grown
			if out := tool(t, "sgdisk", "-v", path); !strings.Contains(out, "No problems found") {
				t.Errorf("after a cut behind write %d and a second try:\n%s", cut, out)
			}
		}
		_ = f.Close()
		_ = os.Remove(path)
	}
}

func TestGrowMBR(t *testing.T) {
	path := image(t, 64)
	cmd := exec.Command(oracle.Program(t, "sfdisk"), "-q", path)
	cmd.Stdin = strings.NewReader("label: dos\n2048,32768,c\n34816,65536,83\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v\n%s", err, out)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	last, grown, err := growTable(f, 2, 64<<20, 512)
	if err != nil || !grown || last != 64<<20/512-1 {
		t.Fatalf("last %d, grown %v, %v", last, grown, err)
	}
	if out := tool(t, "sfdisk", "-d", path); !strings.Contains(out, "start=       34816, size=       96256, type=83") {
		t.Errorf("table:\n%s", out)
	}
	for _, n := range []int{1, 3, 5} {
		if _, grown, err := growTable(f, n, 128<<20, 512); grown || err != nil {
			t.Errorf("partition %d: %v, %v, want untouched", n, grown, err)
		}
	}
}

func TestGrowRefusesDamage(t *testing.T) {
	for name, damage := range map[string]func(b []byte){
		"no table at all":    func(b []byte) { clear(b[:1<<20]) },
		"header checksum":    func(b []byte) { b[512+40] ^= 1 },
		"entries checksum":   func(b []byte) { b[1024+56] ^= 1 },
		"table out of range": func(b []byte) { b[512+80] = 0xFF; b[512+81] = 0xFF },
	} {
		t.Run(name, func(t *testing.T) {
			f := gptImage(t)
			b := make([]byte, 2<<20)
			if _, err := f.ReadAt(b, 0); err != nil {
				t.Fatal(err)
			}
			damage(b)
			if _, err := f.WriteAt(b, 0); err != nil {
				t.Fatal(err)
			}
			if _, grown, err := growTable(f, 2, grownSize, 512); grown || !errors.Is(err, ErrNoTable) {
				t.Errorf("grown %v, %v, want ErrNoTable", grown, err)
			}
		})
	}
}

func FuzzParseHeader(f *testing.F) {
	f.Add(append([]byte("EFI PART\x00\x00\x01\x00\x5c\x00\x00\x00"), make([]byte, 496)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 512 {
			return
		}
		if h, err := parseHeader(b, 1, 1<<20); err == nil && (h.last >= 1<<20 || h.count == 0) {
			t.Errorf("accepted %+v", h)
		}
	})
}

// attach makes a loop device for the time of the test.
func attach(t *testing.T, path string) *Loop {
	t.Helper()
	l, err := LoopAttach(path, LoopOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestFindMountAndGrowFilesystem(t *testing.T) {
	needRoot(t)
	path := image(t, 64)
	label := fmt.Sprintf("pv-%d", os.Getpid())
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := ext4.Write(t.Context(), f, nil, ext4.Options{Size: 64 << 20, Journal: 4 << 20, Label: label, Time: time.Unix(1, 0)}); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 300<<20); err != nil {
		t.Fatal(err)
	}
	l := attach(t, path)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	dev, others, err := Find(ctx, Want{Spec: "LABEL=" + label})
	if err != nil || len(others) != 0 || dev.Path != l.Path {
		t.Fatalf("found %+v, others %v, %v; want %s", dev, others, err, l.Path)
	}
	dir := filepath.Join(t.TempDir(), "storage")
	if err := Mount(dev, MountOptions{Target: dir}); err != nil {
		t.Fatal(err)
	}
	grown, err := GrowFilesystem(dev, dir)
	if errors.Is(err, unix.EPERM) {
		_ = unix.Unmount(dir, 0)
		t.Skip("growing ext4 needs CAP_SYS_RESOURCE; the virtual machine test covers it")
	}
	if err != nil || !grown {
		t.Errorf("grown %v, %v", grown, err)
	}
	if again, err := GrowFilesystem(dev, dir); again || err != nil {
		t.Errorf("second growth: %v, %v", again, err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || st.Blocks*uint64(st.Bsize) < 250<<20 {
		t.Errorf("size %d MiB, %v", st.Blocks*uint64(st.Bsize)>>20, err)
	}
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
	tool(t, "e2fsck", "-fn", path)
}

func TestFindNamesAmbiguity(t *testing.T) {
	needRoot(t)
	label := fmt.Sprintf("two-%d", os.Getpid())
	for range 2 {
		path := image(t, 8)
		tool(t, "mke2fs", "-q", "-t", "ext2", "-L", label, path)
		attach(t, path)
	}
	_, others, err := Find(t.Context(), Want{Spec: "LABEL=" + label})
	if err != nil || len(others) != 1 {
		t.Errorf("others %v, %v, want one", others, err)
	}
}

func TestFindWaitsForTheDevice(t *testing.T) {
	needRoot(t)
	path := image(t, 8)
	label := fmt.Sprintf("late-%d", os.Getpid())
	tool(t, "mke2fs", "-q", "-t", "ext2", "-L", label, path)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	type result struct {
		dev Device
		err error
	}
	done := make(chan result, 1)
	go func() {
		d, _, err := Find(ctx, Want{Spec: "LABEL=" + label})
		done <- result{d, err}
	}()
	l := attach(t, path) // the kernel says "change" when a loop device gets its file
	if r := <-done; r.err != nil || r.dev.Path != l.Path {
		t.Errorf("found %+v, %v, want %s", r.dev, r.err, l.Path)
	}
}

func TestFindTimeoutNamesWhatIsThere(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := Find(ctx, Want{Spec: "LABEL=there-is-none"})
	if !errors.Is(err, errNotFound) || !strings.Contains(err.Error(), "LABEL=there-is-none") {
		t.Errorf("%v, want ErrNotFound with the label", err)
	}
}

func TestFindRefusesBadSpecs(t *testing.T) {
	for _, spec := range []string{"LABEL=", "LABLE=x"} {
		if _, _, err := Find(t.Context(), Want{Spec: spec}); err == nil || errors.Is(err, errNotFound) {
			t.Errorf("%q: %v, want a complaint about the setting", spec, err)
		}
	}
}

func TestChoosePrefersTheBootDisk(t *testing.T) {
	esp := Device{Path: "/dev/vdb1", Disk: "vdb", PartUUID: "AAAA"}
	a, b := Device{Path: "/dev/vda2", Disk: "vda"}, Device{Path: "/dev/vdb2", Disk: "vdb"}
	all := []Device{a, esp, b}
	got, others, _ := choose([]Device{a, b}, all, "aaaa")
	if got.Path != b.Path || len(others) != 1 || others[0].Path != a.Path {
		t.Errorf("took %s, left %v; want vdb2", got.Path, others)
	}
	if got, _, _ := choose([]Device{a, b}, all, ""); got.Path != a.Path {
		t.Errorf("took %s without a hint, want the first", got.Path)
	}
}

// TestUsualStorage has no PV_STORAGE_DEVICE: the BSP of another device does not know it.
func TestUsualStorage(t *testing.T) {
	boot := Device{Path: "/dev/vda1", Disk: "vda", PartUUID: "A1", Super: Super{Type: "vfat", Label: "pvboot"}}
	data := Device{Path: "/dev/vda2", Disk: "vda", PartUUID: "A2", Super: Super{Type: "ext4", Label: "data"}}
	root := Device{Path: "/dev/vda3", Disk: "vda", PartUUID: "A3", Super: Super{Type: "ext4", Label: "pvroot"}}
	other := Device{Path: "/dev/sda2", Disk: "sda", PartUUID: "B2", Super: Super{Type: "ext4", Label: "root"}}
	swap := Device{Path: "/dev/sda1", Disk: "sda", PartUUID: "B1", Super: Super{Type: "swap", Label: "root"}}
	all := []Device{swap, other, boot, data, root}
	for bootPart, want := range map[string]string{"": "/dev/sda2", "a1": "/dev/vda3", "a2": "/dev/vda2", "A3": "/dev/vda3", "b1": "/dev/sda2", "none": "/dev/sda2"} {
		match, err := Want{BootPart: bootPart}.matcher()
		if err != nil {
			t.Fatal(err)
		}
		hits := slices.DeleteFunc(slices.Clone(all), func(d Device) bool { return !match(d) })
		if got, _, _ := choose(hits, all, bootPart); got.Path != want {
			t.Errorf("booted from %q: took %s, want %s", bootPart, got.Path, want)
		}
	}
	for _, d := range []Device{boot, swap, {Super: Super{Type: "ext4", Label: "data"}}} {
		if (Want{}).usual(d) {
			t.Errorf("%+v is taken for the storage", d)
		}
	}
}

func TestGrowPartitionInUse(t *testing.T) {
	needRoot(t)
	f := gptImage(t)
	l := attach(t, f.Name())
	partx := oracle.Program(t, "partx")
	if out, err := exec.Command(partx, "-a", l.Path).CombinedOutput(); err != nil {
		t.Fatalf("partx: %v\n%s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command(partx, "-d", l.Path).Run() })
	name := filepath.Base(l.Path)
	dev, ok := inspect(name+"p2", map[string]*gpt{})
	if !ok || dev.PartLabel != "pvroot" || dev.Disk != name || len(dev.PartUUID) != 36 {
		t.Fatalf("device %+v, %v", dev, ok)
	}
	held, err := os.Open(dev.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if grown, err := GrowPartition(dev); err != nil || !grown {
		t.Fatalf("grown %v, %v", grown, err)
	}
	size, _, err := geometry(held)
	if err != nil || size < 75<<20 {
		t.Errorf("kernel sees %d MiB, %v", size>>20, err)
	}
}

func TestMountSquashfs(t *testing.T) {
	needRoot(t)
	src, mnt := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(src, "hello"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	img := filepath.Join(t.TempDir(), "a.squashfs")
	tool(t, "mksquashfs", src, img, "-quiet", "-no-progress")
	if err := MountSquashfs(img, mnt, LoopOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(mnt, "hello")); err != nil {
		t.Error(err)
	}
	mounts, _ := os.ReadFile("/proc/self/mounts")
	_, line, _ := strings.Cut("\n"+string(mounts), "\n/dev/loop")
	for !strings.Contains(strings.SplitN(line, "\n", 2)[0], mnt) {
		if _, line, _ = strings.Cut(line, "\n/dev/loop"); line == "" {
			t.Fatal("mount not listed")
		}
	}
	loop := "/sys/block/loop" + strings.Fields(line)[0] + "/loop/backing_file"
	if err := unix.Unmount(mnt, 0); err != nil {
		t.Fatal(err)
	}
	// Whoever makes a mount namespace just now has the mount too, for a moment.
	holds := func() bool {
		b, err := os.ReadFile(loop)
		return err == nil && strings.TrimSpace(string(b)) == img
	}
	for deadline := time.Now().Add(60 * time.Second); holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s still holds %s", loop, img)
		}
	}
}

func TestMountSquashfsErrors(t *testing.T) {
	needRoot(t)
	if err := MountSquashfs("/nonexistent.squashfs", t.TempDir(), LoopOptions{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing image: %v", err)
	}
	garbage := image(t, 1)
	if err := MountSquashfs(garbage, t.TempDir(), LoopOptions{}); err == nil || !strings.Contains(err.Error(), garbage) {
		t.Errorf("garbage: %v", err)
	}
}

func TestMountErrors(t *testing.T) {
	if err := Mount(Device{Path: "/dev/null"}, MountOptions{Target: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "PV_STORAGE_FSTYPE") {
		t.Errorf("unknown type: %v", err)
	}
	needRoot(t)
	err := Mount(Device{Path: "/dev/null"}, MountOptions{Target: t.TempDir(), Type: "nosuchfs"})
	if !errors.Is(err, unix.ENODEV) || !strings.Contains(err.Error(), "early modules") {
		t.Errorf("unknown file system: %v", err)
	}
}

// TestLook finds what is there at once, and does not take it for the storage while
// the disk that was booted from is not there.
func TestLook(t *testing.T) {
	needRoot(t)
	label := fmt.Sprintf("look-%d", os.Getpid())
	if _, _, ok := Look(Want{Spec: "LABEL=" + label}); ok {
		t.Error("found before it exists")
	}
	path := image(t, 8)
	tool(t, "mke2fs", "-q", "-t", "ext2", "-L", label, path)
	l := attach(t, path)
	if dev, others, ok := Look(Want{Spec: "LABEL=" + label}); !ok || dev.Path != l.Path || len(others) != 0 {
		t.Errorf("found %+v, %v, %v, want %s", dev, others, ok, l.Path)
	}
	if dev, _, ok := Look(Want{Spec: "LABEL=" + label, BootPart: "not-there"}); ok {
		t.Errorf("took %+v though its disk was not booted from", dev)
	}
	if _, _, ok := Look(Want{Spec: "LABLE=x"}); ok {
		t.Error("a wrong setting finds something")
	}
}

package bootloadertest

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/debian/partstest"
	"github.com/pantavisor/pantavisor/formats/ext4"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/formats/uimage"
)

const mega = 1 << 20

// loaded are the files that boot loaders are to find: large, in pieces, by a link, in a
// directory with an index.
func loaded() (files map[string][]byte, entries []tree.Entry) {
	numbers := func(size, nth int) []byte { // every nth KiB is not a hole
		out := make([]byte, size)
		for at := 0; at < size; at += nth << 10 {
			copy(out[at:], fmt.Sprintf("%d of %d", at, size))
		}
		return out
	}
	files = map[string][]byte{
		"trails/0/.pv/pv-kernel.img": numbers(3*mega+17, 1), "pieces": numbers(2*mega, 8), "many/0777": []byte("in a directory with an index"),
		"trails/0/bsp/linux": nil, "link": []byte("linked"),
	}
	files["trails/0/bsp/linux"] = files["trails/0/.pv/pv-kernel.img"]
	entries = []tree.Entry{
		tree.Dir("trails", 0o755), tree.Dir("trails/0", 0o755), tree.Dir("trails/0/.pv", 0o755), tree.Dir("trails/0/bsp", 0o755), tree.Dir("many", 0o755),
		tree.Bytes("trails/0/.pv/pv-kernel.img", 0o644, files["trails/0/.pv/pv-kernel.img"]),
		{Name: "trails/0/bsp/linux", HardLink: "trails/0/.pv/pv-kernel.img"},
		tree.Bytes("trails/0/empty", 0o644, nil), tree.Bytes("pieces", 0o644, files["pieces"]),
		tree.Bytes("trails/0/target", 0o644, files["link"]), tree.Symlink("link", "trails/0/target"),
	}
	for i := range 2000 {
		name := fmt.Sprintf("many/%04d", i)
		entries = append(entries, tree.Bytes(name, 0o644, files[name]))
	}
	return files, entries
}

// disks is a disk of file systems with blocks of 1 and 4 KiB: 40 MiB each from the first MiB on.
func disks(t *testing.T, entries []tree.Entry) string {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "disk.img")
	Write(t, disk, nil)
	if err := os.Truncate(disk, 82*mega); err != nil {
		t.Fatal(err)
	}
	for i, block := range []int{1024, 4096} {
		writeExt4(t, disk, int64(1+40*i)*mega, entries, ext4.Options{
			Size: 40 * mega, BlockSize: block, InodeRatio: 8192, Journal: 4 * mega, Label: fmt.Sprint("blocks", block), HashSeed: [16]byte{1: 1},
		})
	}
	return disk
}

// TestGRUBReadsExt4: GRUB's own code lists and loads from new file systems.
func TestGRUBReadsExt4(t *testing.T) {
	grub := partstest.Program(t, "grub-common", "grub-fstest")
	files, entries := loaded()
	disk := disks(t, entries)
	for i := range 2 {
		img := filepath.Join(t.TempDir(), "img")
		Command(t, "dd", "if="+disk, "of="+img, "bs=1M", fmt.Sprint("skip=", 1+40*i), "count=40")
		for name, want := range files {
			got, err := grub(img, "cat", "/"+name).Output()
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes, want %d: %v", name, len(got), len(want), err)
			}
		}
		for dir, want := range map[string]string{"/": "lost+found/", "/trails/0/": "bsp/", "/many/": "1999"} {
			if got, err := grub(img, "ls", dir).Output(); err != nil || !strings.Contains(string(got), want) {
				t.Errorf("%s has no %s: %v\n%s", dir, want, err, got)
			}
		}
	}
}

// TestUBootReadsExt4: a real U-Boot lists and loads from new file systems.
func TestUBootReadsExt4(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine")
	}
	NeedUBoot(t)
	files, entries := loaded()
	disk := disks(t, entries)
	var script strings.Builder
	for part := 2; part <= 3; part++ {
		for name := range files {
			fmt.Fprintf(&script, "echo FILE %d %s\next4load virtio 0:%d 60000000 /%s && crc32 60000000 ${filesize}\n", part, name, part, name)
		}
		for _, dir := range []string{"/", "/trails/0", "/many"} {
			fmt.Fprintf(&script, "echo LIST %d %s\next4ls virtio 0:%d %s\n", part, dir, part, dir)
		}
	}
	image, err := uimage.EncodeScript(uimage.Header{}, []byte(script.String()+"echo END\npoweroff\n"))
	if err != nil {
		t.Fatal(err)
	}
	console := bootScript(t, disk, image)
	for part := 2; part <= 3; part++ {
		for name, want := range files {
			got := section(console, fmt.Sprintf("FILE %d %s\n", part, name))
			if sum := fmt.Sprintf("==> %08x\n", crc32.ChecksumIEEE(want)); !strings.Contains(got, sum) {
				t.Errorf("%s of partition %d: want%s, the console has\n%s", name, part, sum[3:], got)
			}
		}
		for dir, want := range map[string]string{"/": "<SYM>         15 link\n", "/trails/0": "<DIR>       4096 .pv\n", "/many": "28 0777\n"} {
			got := section(console, fmt.Sprintf("LIST %d %s\n", part, dir))
			if part == 2 {
				want = strings.Replace(want, "4096", "1024", 1)
			}
			if !strings.Contains(got, want) {
				t.Errorf("%s of partition %d: want %q, the console has\n%.1000s", dir, part, want, got)
			}
		}
	}
}

// section returns what is behind a line of a console up to the next file or list.
func section(console, line string) string {
	_, rest, _ := strings.Cut(console, line)
	if end := regexp.MustCompile("(?m)^(FILE|LIST|END)").FindStringIndex(rest); end != nil {
		rest = rest[:end[0]]
	}
	return rest
}

// bootScript puts a script on a boot partition behind the file systems of a disk and has
// U-Boot run it.
func bootScript(t *testing.T, disk string, script []byte) string {
	t.Helper()
	if err := os.Truncate(disk, 120*mega); err != nil {
		t.Fatal(err)
	}
	top := t.TempDir()
	Write(t, filepath.Join(top, "boot.scr"), script)
	Command(t, "sgdisk", "-a", "1", "-n", fmt.Sprintf("1:%d:+%d", 81*mega/512, 36*mega/512), "-n", fmt.Sprintf("2:%d:+%d", 1*mega/512, 40*mega/512),
		"-n", fmt.Sprintf("3:%d:+%d", 41*mega/512, 40*mega/512), "-A", "1:set:2", disk)
	FAT(t, disk, 81*mega, 36*mega, top, "-s", "1")
	args := append(UBoot(), "-m", "1024", "-drive", "if=none,id=disk,format=raw,file="+disk, "-device", "virtio-blk-pci,drive=disk")
	return Emulate(t, 4*time.Minute, "qemu-system-aarch64", args...)
}

package fatfile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/oracle"
)

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// volumes are file systems of both kinds, with many files before those that are looked for.
func volumes(t *testing.T) map[string]string {
	t.Helper()
	oracle.Need(t, "mkfs.vfat", "mcopy", "mtype", "fsck.vfat")
	out := map[string]string{}
	for kind, args := range map[string][]string{
		"FAT16": {"-F", "16", "-C"}, "FAT32": {"-F", "32", "-s", "1", "-C"}, "FAT32, large clusters": {"-F", "32", "-s", "2", "-C"},
	} {
		image, dir := filepath.Join(t.TempDir(), "fat"), t.TempDir()
		size := map[bool]string{true: "16384", false: "81920"}[kind == "FAT16"]
		command(t, "mkfs.vfat", append(args, image, size)...)
		for i := range 40 {
			name := filepath.Join(dir, strings.Repeat("a", 20)+string(rune('a'+i%26))+string(rune('a'+i/26))+".txt")
			if err := os.WriteFile(name, []byte("other"), 0o644); err != nil {
				t.Fatal(err)
			}
			command(t, "mcopy", "-i", image, name, "::/")
		}
		for name, text := range map[string]string{"autoboot.txt": "one\n", "PV_REV.TXT": strings.Repeat("\n", 512), "empty": ""} {
			file := filepath.Join(dir, name)
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			command(t, "mcopy", "-i", image, file, "::/")
		}
		out[kind] = image
	}
	return out
}

func TestFilesAreChangedInPlace(t *testing.T) {
	t.Parallel()
	for kind, image := range volumes(t) {
		f, err := os.OpenFile(image, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Read(f, "autoboot.txt"); err != nil || string(got) != "one\n" {
			t.Errorf("%s: %q, %v", kind, got, err)
		}
		before, err := os.ReadFile(image)
		if err != nil {
			t.Fatal(err)
		}
		if err := Write(f, "pv_rev.txt", []byte("4"+strings.Repeat("\n", 511))); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		after, err := os.ReadFile(image)
		if err != nil {
			t.Fatal(err)
		}
		if n := changedSectors(before, after); n != 1 {
			t.Errorf("%s: %d sectors were changed for a content of the same size", kind, n)
		}
		for _, text := range []string{"a longer text\n", "s\n"} {
			if err := Write(f, "autoboot.txt", []byte(text)); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
			if got := command(t, "mtype", "-i", image, "::autoboot.txt"); got != text {
				t.Errorf("%s: mtype reads %q, want %q", kind, got, text)
			}
		}
		if got := command(t, "mtype", "-i", image, "::pv_rev.txt"); strings.TrimSpace(got) != "4" {
			t.Errorf("%s: mtype reads %q", kind, got)
		}
		command(t, "fsck.vfat", "-n", image)
		for name, want := range map[string]error{"absent.txt": fs.ErrNotExist, "empty": nil} {
			if err := Write(f, name, []byte("x")); err == nil || want != nil && !errors.Is(err, want) {
				t.Errorf("%s, %s: %v", kind, name, err)
			}
		}
		if err := errors.Join(Write(f, "autoboot.txt", make([]byte, 513))); err == nil {
			t.Errorf("%s: more than a sector was taken", kind)
		}
		_ = f.Close()
	}
}

func TestCreate(t *testing.T) {
	t.Parallel()
	for kind, image := range volumes(t) {
		f, err := os.OpenFile(image, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"oemEnv.txt": "oemargs=a b\n", "B": strings.Repeat("b", 512)} {
			if err := Create(f, name, []byte(text)); err != nil {
				t.Errorf("%s, %s: %v", kind, name, err)
			}
			if got := command(t, "mtype", "-i", image, "::"+name); got != text {
				t.Errorf("%s: mtype reads %q, want %q", kind, got, text)
			}
		}
		if out := command(t, "fsck.vfat", "-n", image); strings.Contains(out, "wrong") {
			t.Errorf("%s: %s", kind, out)
		}
		for name, size := range map[string]int{"oemenv.TXT": 1, "none": 0, "long": 513, "a b": 1} {
			if err := Create(f, name, make([]byte, size)); err == nil || errors.Is(err, fs.ErrExist) != (size == 1 && name != "a b") {
				t.Errorf("%s, %s of %d bytes: %v", kind, name, size, err)
			}
		}
		_ = f.Close()
	}
}

// TestCreateUntilFull fills the root directory of a FAT16 file system.
func TestCreateUntilFull(t *testing.T) {
	t.Parallel()
	oracle.Need(t, "mkfs.vfat", "fsck.vfat")
	image := filepath.Join(t.TempDir(), "fat")
	command(t, "mkfs.vfat", "-F", "16", "-r", "32", "-s", "1", "-C", image, "4096")
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	for ; n < 100 && err == nil; n++ {
		err = Create(f, fmt.Sprint("f", n), []byte("x"))
	}
	if !errors.Is(err, errFull) || n != 33 {
		t.Errorf("file %d: %v, want that the root directory of 32 is full", n, err)
	}
	command(t, "fsck.vfat", "-n", image)
}

func changedSectors(before, after []byte) (n int) {
	for at := 0; at < len(before); at += sector {
		if !bytes.Equal(before[at:at+sector], after[at:at+sector]) {
			n++
		}
	}
	return n
}

func TestNoFileSystem(t *testing.T) {
	t.Parallel()
	for name, data := range map[string][]byte{"zeros": make([]byte, 1<<20), "short": {1, 2, 3}} {
		if _, err := Read(bytes.NewReader(data), "a.txt"); err == nil {
			t.Errorf("%s: a file was found", name)
		}
	}
	for _, name := range []string{"", "toolongname.txt", "a.text", "a/b", ".txt"} {
		if _, err := Read(bytes.NewReader(make([]byte, 512)), name); err == nil || !strings.Contains(err.Error(), "8 and 3") {
			t.Errorf("name %q: %v", name, err)
		}
	}
}

// memory is a medium.
type memory []byte

func (m memory) ReadAt(b []byte, at int64) (int, error) { return bytes.NewReader(m).ReadAt(b, at) }

func (m memory) WriteAt(b []byte, at int64) (int, error) {
	if at < 0 || at+int64(len(b)) > int64(len(m)) {
		return 0, errors.New("outside of the medium")
	}
	return copy(m[at:], b), nil
}

// FuzzRead has damaged file systems: reading and creating ends, and does not panic.
func FuzzRead(f *testing.F) {
	boot := make([]byte, 4096)
	copy(boot[11:], []byte{0, 2, 1, 32, 0, 2, 0, 0, 0, 0, 0xf8, 0, 0})
	boot[32], boot[33], boot[34], boot[36], boot[37], boot[44], boot[510], boot[511] = 0, 0, 2, 0, 4, 2, 0x55, 0xaa
	f.Add(boot)
	f.Fuzz(func(_ *testing.T, data []byte) {
		_, _ = Read(bytes.NewReader(data), "a.txt")
		_ = Create(memory(bytes.Clone(data)), "b.txt", []byte("x"))
	})
}

package storage

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/formats/ext4"
)

// readSuper returns the superblock of an image.
func readSuper(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, superSize)
	if _, err := f.ReadAt(b, superAt); err != nil {
		t.Fatal(err)
	}
	return b
}

func writeSuper(t *testing.T, path string, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, superAt); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// used makes an image of a file system with a file in it, and returns its path, that of a copy
// made while it was mounted, and the superblock before it was mounted.
func used(t *testing.T, mib int64, block int) (path, dirty string, before []byte) {
	t.Helper()
	path = image(t, mib)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := ext4.Write(t.Context(), f, nil, ext4.Options{Size: mib << 20, Journal: 4 << 20, BlockSize: block, Time: time.Unix(1, 0)}); err != nil {
		t.Fatal(err)
	}
	before = readSuper(t, path)
	mounted(t, path, nil, func(dir string) {
		if err := os.WriteFile(filepath.Join(dir, "file"), []byte("kept"), 0o644); err != nil {
			t.Fatal(err)
		}
		unix.Sync()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		dirty = filepath.Join(t.TempDir(), "dirty.img")
		if err := os.WriteFile(dirty, text, 0o600); err != nil {
			t.Fatal(err)
		}
	})
	return path, dirty, before
}

// mounted calls a function while the image is mounted.
func mounted(t *testing.T, path string, warn func(string), do func(dir string)) {
	t.Helper()
	l, err := LoopAttach(path, LoopOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	if err := Mount(Device{Path: l.Path}, MountOptions{Target: dir, Type: "ext4", Warn: warn}); err != nil {
		t.Error(err)
		return
	}
	do(dir)
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
}

// plainMount returns what the kernel says to an image.
func plainMount(t *testing.T, path string) error {
	t.Helper()
	l, err := LoopAttach(path, LoopOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	if err := unix.Mount(l.Path, dir, "ext4", 0, ""); err != nil {
		return err
	}
	return unix.Unmount(dir, 0)
}

// TestTornSuperblock: whichever of the two sectors of a superblock is the older one, also of a
// file system that was in use, it is mounted and nothing is lost. The kernel alone mounts none.
func TestTornSuperblock(t *testing.T) {
	needRoot(t)
	for _, block := range []int{1024, 4096} {
		clean, dirty, before := used(t, 160, block)
		after, inUse := readSuper(t, clean), readSuper(t, dirty)
		for name, c := range map[string]struct {
			path string
			torn []byte
		}{
			"old first": {clean, slices.Concat(before[:superSector], after[superSector:])},
			"new first": {clean, slices.Concat(after[:superSector], before[superSector:])},
			"in use":    {dirty, slices.Concat(inUse[:superSector], before[superSector:])},
		} {
			writeSuper(t, c.path, c.torn)
			if err := plainMount(t, c.path); !errors.Is(err, unix.EBADMSG) {
				t.Fatalf("%s: the kernel alone says %v: the superblock is not torn", name, err)
			}
			var said []string
			mounted(t, c.path, func(text string) { said = append(said, text) }, func(dir string) {
				if text, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(text) != "kept" {
					t.Errorf("%s, blocks of %d: %q, %v", name, block, text, err)
				}
			})
			if len(said) != 1 || !strings.Contains(said[0], "torn by a power cut") {
				t.Errorf("%s: said %q", name, said)
			}
			tool(t, "e2fsck", "-fn", c.path)
		}
	}
}

// TestDamagedSuperblock: what is not torn is left alone.
func TestDamagedSuperblock(t *testing.T) {
	needRoot(t)
	path, _, _ := used(t, 160, 4096)
	small, _, _ := used(t, 32, 4096)
	for name, c := range map[string]struct {
		path string
		at   int
		want string
	}{
		"another UUID":      {path, 0x68, "do not agree"},
		"another feature":   {path, 0x61, "do not agree"},
		"no second group":   {small, 0x2C, "copy of the superblock"},
		"not a file system": {path, 0x38, ""},
	} {
		super := readSuper(t, c.path)
		torn := slices.Clone(super)
		torn[c.at] ^= 0x40
		writeSuper(t, c.path, torn)
		l := attach(t, c.path)
		err := Mount(Device{Path: l.Path}, MountOptions{Target: t.TempDir(), Type: "ext4"})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if !bytes.Equal(readSuper(t, c.path), torn) {
			t.Errorf("%s: the superblock was written to", name)
		}
		writeSuper(t, c.path, super)
	}
	if mended, err := mendDevice(path, mendSuper); mended || err != nil {
		t.Errorf("a superblock that is whole: %v, %v", mended, err)
	}
}

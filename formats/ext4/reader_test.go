package ext4

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/formats/region"
	"github.com/pantavisor/pantavisor/formats/region/regiontest"
	"github.com/pantavisor/pantavisor/formats/tree"
)

// read opens an image and returns its walk in the form of compareWith.
func read(t testing.TB, img string) (*FS, func(do func(tree.Entry) error) error) {
	t.Helper()
	file, err := os.Open(img)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	f, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	return f, func(do func(tree.Entry) error) error {
		return f.Walk(t.Context(), func(n *File) error { return do(n.Entry) })
	}
}

func TestReadsWhatIsWritten(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			entries := randomTree(seed, 120)
			o := randomOptions(seed)
			f, walk := read(t, write(t, o, entries...))
			compareWith(t, entries, walk)
			if f.Label() != o.Label || strings.ReplaceAll(f.UUID(), "-", "") != fmt.Sprintf("%x", o.UUID) {
				t.Errorf("label %q, UUID %s", f.Label(), f.UUID())
			}
		})
	}
}

// TestReadsWhatTheKernelHasWritten reads a file system that was changed while it was mounted:
// with fragments, uninitialized extents and directories that have grown and shrunk.
func TestReadsWhatTheKernelHasWritten(t *testing.T) {
	t.Parallel()
	img, dir, unmount := used(t, options(64<<20))
	change(t, dir)
	entries, err := tree.Read(t.Context(), dir, tree.Options{Xattrs: true})
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range entries { // before they are unmounted
		if e.Open != nil && e.HardLink == "" {
			var b bytes.Buffer
			if err := e.WriteContent(&b); err != nil {
				t.Fatal(err)
			}
			entries[i].Open = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }
		}
	}
	unmount()
	_, walk := read(t, img)
	compareWith(t, entries, walk)
}

func TestRegionsNameEveryByte(t *testing.T) {
	t.Parallel()
	for _, block := range []int{1024, 4096} {
		o := options(64 << 20)
		o.BlockSize = block
		img := write(t, o, tree.Bytes("a", 0o644, []byte("content")), tree.Bytes("b", 0o644, bytes.Repeat([]byte("long"), 5000)))
		f, _ := read(t, img)
		var m regiontest.Map
		if err := f.Regions(t.Context(), m.Add); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(img)
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; at < len(data); at += 64 {
			place, ok := m.Find(int64(at))
			if !ok {
				t.Fatalf("byte %d is in no region", at)
			}
			if place.Name == "a block that no file uses" && len(bytes.Trim(data[at:at+64], "\x00")) > 0 {
				t.Fatalf("byte %d of blocks of %d has content and is of no file", at, block)
			}
		}
		if p, _ := m.Find(int64(bytes.Index(data, []byte("content")))); p.File != "a" || p.Offset != 0 {
			t.Errorf("the content of a is in %+v", p)
		}
	}
}

// FuzzOpen reads damaged file systems.
func FuzzOpen(f *testing.F) {
	o := options(200 << 10)
	o.Journal, o.BlockSize = 0, 1024
	data, err := os.ReadFile(write(f, o, tree.Bytes("a", 0o644, []byte("x")), tree.Dir("d", 0o755), tree.Symlink("d/l", strings.Repeat("l", 100))))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(1024), byte(1), uint32(1080), byte(7))
	f.Fuzz(func(t *testing.T, at uint32, with byte, at2 uint32, with2 byte) {
		image := bytes.Clone(data)
		image[int(at)%len(image)] ^= with
		image[int(at2)%len(image)] ^= with2
		fsys, err := Open(bytes.NewReader(image))
		if err != nil {
			return
		}
		_ = fsys.Walk(context.Background(), func(n *File) error {
			if n.Content != nil && n.Size < 1<<20 {
				_, _ = io.Copy(io.Discard, n.Content.Reader())
			}
			return nil
		})
		_ = fsys.Regions(context.Background(), region.Find(int64(at)).Add)
	})
}

// hostile returns an image that a test changes.
func hostile(t *testing.T) []byte {
	t.Helper()
	img, err := os.ReadFile(write(t, Options{Size: 16 << 20}, tree.Bytes("file", 0o644, bytes.Repeat([]byte("content"), 10<<10))))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// TestRegionsOfHostileImages: without the inodes that every file system has, and with so many groups
// that all copies of their descriptors need more memory than there is.
func TestRegionsOfHostileImages(t *testing.T) {
	t.Parallel()
	for _, groups := range []uint32{1, 1 << 17} {
		img := hostile(t)
		super := img[superblockAt:]
		le.PutUint32(super, min(groups, 8)) // inodes
		le.PutUint32(super[4:], 4096)       // blocks
		le.PutUint32(super[40:], 1)         // inodes of a group
		le.PutUint32(super[32:], 8*4096)    // blocks of a group
		le.PutUint32(super[100:], le.Uint32(super[100:])&^sparseSuper)
		if groups > 1 {
			le.PutUint32(super[4:], groups)
			le.PutUint32(super[32:], 1)
		}
		clear(img[4096 : 12<<20])
		f, err := Open(bytes.NewReader(img))
		if err != nil {
			t.Fatal(err)
		}
		found := region.Find(1100)
		if err := f.Regions(t.Context(), found.Add); (err == nil) != (groups > 1) {
			t.Fatalf("%d groups: %v", groups, err)
		}
		if r, ok := found.Place(); !ok || r.Name != "superblock" && groups > 1 {
			t.Errorf("%d groups: the superblock is in %q", groups, r.Name)
		}
	}
}

// TestBlocksOfExtentsThatAreTheSame: each entry of a tree of five levels leads to the same block.
func TestBlocksOfExtentsThatAreTheSame(t *testing.T) {
	t.Parallel()
	img := hostile(t)
	f, err := Open(bytes.NewReader(img))
	if err != nil {
		t.Fatal(err)
	}
	n, err := f.Lookup("file")
	if err != nil {
		t.Fatal(err)
	}
	first := n.Content.Runs()[0].From
	node := func(b []byte, count, depth int, child int64) {
		clear(b)
		le.PutUint16(b, extentMagic)
		le.PutUint16(b[2:], uint16(count))
		le.PutUint16(b[6:], uint16(depth))
		for e := range count {
			le.PutUint32(b[extentEntry*(e+1)+4:], uint32(child/f.block))
		}
	}
	for depth := range 5 {
		count := int(f.block)/extentEntry - 1
		if depth == 0 {
			count = 0
		}
		node(img[first+int64(depth)*f.block:][:f.block], count, depth, first+int64(depth-1)*f.block)
	}
	node(img[f.inodeAt(n.Inode)+40:][:60], 4, 5, first+4*f.block)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := f.Lookup("file")
		done <- err
	}()
	select {
	case err := <-done:
		if !errors.Is(err, errFormat) {
			t.Error(err)
		}
	case <-ctx.Done():
		t.Error("it is still read")
	}
}

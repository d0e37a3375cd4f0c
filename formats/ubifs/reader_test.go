package ubifs

import (
	"bytes"
	"errors"
	"hash/crc32"
	"io"
	"slices"
	"testing"

	"github.com/pantavisor/pantavisor/formats/region"
	"github.com/pantavisor/pantavisor/formats/tree"
)

func TestReadsWhatIsWritten(t *testing.T) {
	t.Parallel()
	entries := content()
	slices.SortFunc(entries, tree.Compare)
	data, _ := volume(t, entries)
	f, err := Open(t.Context(), bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	if f.BlockSize() != chip.Payload() {
		t.Errorf("blocks of %d bytes", f.BlockSize())
	}
	files := map[string]*File{}
	if err := f.Walk(t.Context(), func(n *File) error { files[n.Name] = n; return nil }); err != nil {
		t.Fatal(err)
	}
	if len(files) != len(entries)+1 { // the root
		t.Errorf("%d names instead of %d", len(files), len(entries)+1)
	}
	for _, e := range entries {
		n := files[e.Name]
		if n == nil {
			t.Errorf("%s is missing", e.Name)
			continue
		}
		if e.HardLink != "" {
			if first := files[e.HardLink]; first.Inode != n.Inode || n.HardLink == "" && first.HardLink == "" {
				t.Errorf("%s is %+v", e.Name, n)
			}
			continue
		}
		if n.Mode != e.Mode || n.Link != e.Link || n.Size != e.Size || n.ModTime.Unix() != 1577836800 {
			t.Errorf("%s is %+v", e.Name, n.Entry)
		}
		var want bytes.Buffer
		if !e.Mode.IsRegular() {
			continue
		}
		if err := e.WriteContent(&want); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(n.Content.Reader()); err != nil || !bytes.Equal(got, want.Bytes()) {
			t.Errorf("%s has another content, %v", e.Name, err)
		}
	}
}

// TestDamage: the checksum of each node is compared.
func TestDamage(t *testing.T) {
	t.Parallel()
	data, _ := volume(t, []tree.Entry{tree.Bytes("file", 0o644, []byte("a content that is found"))})
	at := bytes.Index(data, []byte("a content that is found"))
	f, err := Open(t.Context(), bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	found := region.Find(int64(at))
	if err := f.Regions(t.Context(), found.Add); err != nil {
		t.Fatal(err)
	}
	if r, ok := found.Place(); !ok || r.Name != "block 0 of inode 65" && r.Name != "block 0 of inode 64" {
		t.Errorf("the content is in %+v", r)
	}
	data[at] ^= 1
	if _, err := Open(t.Context(), bytes.NewReader(data), int64(len(data))); err == nil {
		t.Error("a node with a wrong checksum was read")
	}
}

// TestLargeNode: the data of a node is at most a block of a file, so that blocks do not overlap.
func TestLargeNode(t *testing.T) {
	t.Parallel()
	data, _ := volume(t, []tree.Entry{tree.Bytes("file", 0o644, []byte("a content that is found"))})
	at := bytes.Index(data, []byte("a content that is found")) - dataSize
	node := data[at : at+dataSize+blockSize+8]
	le.PutUint32(node[16:], uint32(len(node)))
	le.PutUint32(node[4:], ^crc32.ChecksumIEEE(node[8:]))
	if _, err := Open(t.Context(), bytes.NewReader(data), int64(len(data))); !errors.Is(err, errFormat) {
		t.Errorf("a node of %d bytes: %v", len(node), err)
	}
}

// FuzzOpen reads damaged file systems.
func FuzzOpen(f *testing.F) {
	f.Add(uint32(20), byte(1), uint32(36), byte(2))
	var data buffer
	if _, err := Write(&data, []tree.Entry{tree.Dir("d", 0o755), tree.Bytes("d/f", 0o644, []byte("content"))}, Options{Block: chip.Payload(), Page: chip.Page, MaxBlocks: 4096}); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, at uint32, with byte, at2 uint32, with2 byte) {
		image := bytes.Clone(data)
		image[int(at)%len(image)], image[int(at2)%len(image)] = with, with2
		fsys, err := Open(t.Context(), bytes.NewReader(image), int64(len(image)))
		if err == nil {
			_ = fsys.Walk(t.Context(), func(*File) error { return nil })
		}
	})
}

// buffer is a medium in memory.
type buffer []byte

func (b *buffer) WriteAt(p []byte, off int64) (int, error) {
	if grown := int(off) + len(p); grown > len(*b) {
		*b = append(*b, make([]byte, grown-len(*b))...)
	}
	return copy((*b)[off:], p), nil
}

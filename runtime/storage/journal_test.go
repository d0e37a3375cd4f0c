package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// commits are the places of the commit blocks in the journal of a file system.
func commits(t *testing.T, m Medium) (list []int64, block int) {
	t.Helper()
	j, err := openJournal(m)
	if err != nil {
		t.Fatal(err)
	}
	if !j.sums {
		t.Fatal("the journal has no checksums")
	}
	b := make([]byte, j.block)
	for _, x := range j.extents {
		for n := range x.blocks {
			at := int64((x.start + n) * j.block)
			if _, err := m.ReadAt(b, at); err != nil {
				t.Fatal(err)
			}
			if binary.BigEndian.Uint32(b) == journalMagic && binary.BigEndian.Uint32(b[4:]) == journalCommit {
				if !j.whole(b) {
					t.Errorf("the checksum of the commit block at %d, which the kernel has written, is wrong for us", at)
				}
				list = append(list, at)
			}
		}
	}
	return list, int(j.block)
}

// TestTornJournal: a commit block of which only the first sector was written is what the kernel meant,
// one whose first sector is damaged is left alone.
func TestTornJournal(t *testing.T) {
	needRoot(t)
	for _, size := range []int{1024, 4096} {
		_, path, _ := used(t, 160, size)
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		list, block := commits(t, f)
		if len(list) == 0 {
			t.Fatal("a file system that was in use has nothing in its journal")
		}
		whole, b := read(t, path), make([]byte, block)
		if mended, err := MendJournal(f); mended || err != nil {
			t.Errorf("a journal that is whole: %v, %v", mended, err)
		}
		for _, at := range list {
			copy(b, whole[at:])
			for i := superSector; i < block; i++ {
				b[i] = 0xAA // of a transaction before
			}
			if _, err := f.WriteAt(b, at); err != nil {
				t.Fatal(err)
			}
		}
		if mended, err := MendJournal(f); !mended || err != nil {
			t.Errorf("torn commit blocks: %v, %v", mended, err)
		}
		if !bytes.Equal(read(t, path), whole) {
			t.Error("mended commit blocks are not what they were")
		}
		mounted(t, path, nil, func(dir string) {
			if text, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(text) != "kept" {
				t.Errorf("after the journal was mended: %q, %v", text, err)
			}
		})
		damaged := slices.Clone(whole)
		damaged[list[0]+20] ^= 1
		if err := os.WriteFile(path, damaged, 0o644); err != nil {
			t.Fatal(err)
		}
		if mended, err := MendJournal(f); mended || err != nil {
			t.Errorf("a commit block with a damaged first sector: %v, %v", mended, err)
		}
		if !bytes.Equal(read(t, path), damaged) {
			t.Error("a damaged journal was written to")
		}
	}
}

// TestJournalOfAnything: what is no file system with a journal is an error and is not written to.
func TestJournalOfAnything(t *testing.T) {
	path := image(t, 1)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if mended, err := MendJournal(f); mended || err == nil {
		t.Errorf("an empty disk: %v, %v", mended, err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// loop is a disk whose blocks are all the same node of a tree of extents.
type loop struct{ node []byte }

func (l loop) ReadAt(p []byte, _ int64) (int, error)    { return copy(p, l.node), nil }
func (l loop) WriteAt(p []byte, off int64) (int, error) { panic("written to") }

// TestJournalInALoop: a tree whose nodes name each other ends, and is no journal.
func TestJournalInALoop(t *testing.T) {
	node := make([]byte, 4096)
	le := binary.LittleEndian
	const entries = 340
	le.PutUint16(node, 0xF30A)
	le.PutUint16(node[2:], entries)
	le.PutUint16(node[6:], 1) // not a leaf
	nodes := maxNodes
	j := &journal{block: uint64(len(node))}
	if err := j.walk(loop{node}, node, 5, &nodes); !errors.Is(err, errNoJournal) {
		t.Errorf("a tree without leaves: %v", err)
	}
	le.PutUint16(node[6:], 0)
	le.PutUint16(node[2:], 1)
	le.PutUint16(node[12+4:], unwritten+3) // blocks without content
	nodes = maxNodes
	if err := j.walk(loop{node}, node, 5, &nodes); err != nil || len(j.extents) > 0 {
		t.Errorf("an extent without content: %v, %v", j.extents, err)
	}
}

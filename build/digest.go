package build

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/pantavisor/pantavisor/internal/filecopy"
)

// sparseFrom is the size in bytes from which a file's digest leaves out blocks of zeros.
// It depends on the size alone, so that a digest never depends on how the file system
// stores a file.
const sparseFrom = 64 << 20

// block is the unit in which zeros are left out.
const block = 64 << 10

var zeros [block]byte

// Tree is the digest of a directory with its counts.
type Tree struct {
	Digest string // SHA-256 in hex over names, types, permissions and contents
	Files  int    // regular files, hard links counted once
	Bytes  int64  // their sizes summed
}

// DigestTree reads a directory. Two trees have the same digest when they hold the
// same names with the same types, permission bits, contents, link targets,
// device numbers and hard links; times and owners do not count. Of files from 64
// MiB on, blocks of zeros are skipped, so that a sparse disk image costs what its
// data costs.
func DigestTree(root string) (Tree, error) {
	sum := sha256.New()
	t := Tree{}
	links := map[[2]uint64]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		line, err := t.describe(path, rel, d, links)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(sum, "%s %q\n", line, rel)
		return err
	})
	if err != nil {
		return Tree{}, fmt.Errorf("reading directory %s: %w", root, err)
	}
	t.Digest = hex.EncodeToString(sum.Sum(nil))
	return t, nil
}

// describe returns the line of the digest for one name, and counts it.
func (t *Tree) describe(path, rel string, d fs.DirEntry, links map[[2]uint64]string) (string, error) {
	info, err := d.Info()
	if err != nil {
		return "", err
	}
	perm := info.Mode().Perm() | info.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky)
	switch {
	case info.IsDir():
		return fmt.Sprintf("dir %o", perm), nil
	case info.Mode()&fs.ModeSymlink != 0:
		to, err := os.Readlink(path)
		return fmt.Sprintf("link %q", to), err
	case !info.Mode().IsRegular():
		return fmt.Sprintf("special %v %d", info.Mode(), info.Sys().(*syscall.Stat_t).Rdev), nil
	}
	if first, again := linked(info, rel, links); again {
		return fmt.Sprintf("same %q", first), nil
	}
	t.Files++
	t.Bytes += info.Size()
	digest, err := digestContent(path)
	return fmt.Sprintf("file %o %s", perm, digest), err
}

// linked remembers files with several names and reports whether this one was seen under
// another name.
func linked(info fs.FileInfo, rel string, links map[[2]uint64]string) (string, bool) {
	st := info.Sys().(*syscall.Stat_t)
	if st.Nlink < 2 {
		return "", false
	}
	id := [2]uint64{uint64(st.Dev), st.Ino} //nolint:unconvert // Dev is 32 bits wide on mips
	first, again := links[id]
	if !again {
		links[id] = rel
	}
	return first, again
}

// digestContent is the SHA-256 of a file, or from sparseFrom on the SHA-256 over
// the offset and data of every block that is not zero, and the size.
func digestContent(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if info.Size() < sparseFrom {
		return digestReader(f)
	}
	return digestSparse(f, info.Size())
}

// buffers are for reading: a tree of modules has thousands of files.
var buffers = sync.Pool{New: func() any { return new([block]byte) }}

func digestReader(r io.Reader) (string, error) {
	sum, buf := sha256.New(), buffers.Get().(*[block]byte)
	defer buffers.Put(buf)
	// A file would take a buffer of its own for each copy.
	if _, err := io.CopyBuffer(sum, struct{ io.Reader }{r}, buf[:]); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func digestSparse(f *os.File, size int64) (string, error) {
	sum := sha256.New()
	buf := make([]byte, block)
	var number [8]byte
	err := eachBlock(f, size, func(from, to int64) error {
		for at := from; at < to; at += block {
			part := buf[:min(block, size-at)]
			if _, err := f.ReadAt(part, at); err != nil {
				return err
			}
			if bytes.Equal(part, zeros[:len(part)]) {
				continue
			}
			binary.BigEndian.PutUint64(number[:], uint64(at))
			sum.Write(number[:])
			sum.Write(part)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	binary.BigEndian.PutUint64(number[:], uint64(size))
	sum.Write(number[:])
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// eachBlock calls fn with the ranges of a file that may hold data, in order, widened to
// whole blocks and never overlapping.
func eachBlock(f *os.File, size int64, fn func(from, to int64) error) error {
	end := int64(0)
	return filecopy.Extents(f, size, func(from, to int64) error {
		from = max(end, from/block*block)
		end = max(end, min(size, (to+block-1)/block*block))
		if from >= end {
			return nil
		}
		return fn(from, end)
	})
}

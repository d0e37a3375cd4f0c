package powercut

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// Numbers of ext4 (kernel: Documentation/filesystems/ext4).
const (
	superAt       = 1024
	superMagic    = 0xef53
	extentMagic   = 0xf30a
	incompat64    = 0x80
	needsRecovery = 0x4
	rootInode     = 2
	journalInode  = 8
	extentsFlag   = 0x80000
	maxDepth      = 5
	uninitialized = 32768 // lengths above it are of blocks that read as zeros
	maxDirectory  = 4 << 20
)

// errDamaged is what a reader says of structures that cannot be right.
var errDamaged = errors.New("the file system is damaged")

// ext4 reads a file system as boot loaders do: what is at its place counts, the journal and
// checksums do not.
type ext4 struct {
	r              io.ReaderAt
	size           int64 // of a block
	inodeSize      int64
	inodesPerGroup uint32
	descSize       int64
	descAt         int64
	groups         int64
	recover        bool // the journal is to be replayed
}

func openExt4(r io.ReaderAt) (*ext4, error) {
	var sb [1024]byte
	if _, err := r.ReadAt(sb[:], superAt); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	shift := le.Uint32(sb[0x18:])
	if le.Uint16(sb[0x38:]) != superMagic || shift > 6 {
		return nil, fmt.Errorf("reading the superblock: %w", errDamaged)
	}
	f := &ext4{r: r, size: 1024 << shift, inodeSize: int64(le.Uint16(sb[0x58:])), inodesPerGroup: le.Uint32(sb[0x28:]), descSize: 32}
	incompat := le.Uint32(sb[0x60:])
	if incompat&incompat64 != 0 {
		f.descSize = int64(le.Uint16(sb[0xfe:]))
	}
	f.descAt = (int64(le.Uint32(sb[0x14:])) + 1) * f.size
	f.recover = incompat&needsRecovery != 0
	if perGroup := int64(le.Uint32(sb[0x20:])); perGroup > 0 {
		f.groups = (int64(le.Uint32(sb[4:])) - int64(le.Uint32(sb[0x14:])) + perGroup - 1) / perGroup
	}
	if f.inodesPerGroup == 0 || f.inodeSize < 128 || f.descSize < 32 {
		return nil, fmt.Errorf("reading the superblock: %w", errDamaged)
	}
	return f, nil
}

// inode is what an inode says.
type inode struct {
	mode  uint16
	links uint16
	flags uint32
	size  int64
	block [60]byte
}

func (i *inode) dir() bool { return i.mode&0xf000 == 0x4000 }

func (f *ext4) inode(n uint32) (*inode, error) {
	if n == 0 {
		return nil, fmt.Errorf("inode 0: %w", errDamaged)
	}
	group, index := (n-1)/f.inodesPerGroup, (n-1)%f.inodesPerGroup
	var desc [64]byte
	if _, err := f.r.ReadAt(desc[:min(f.descSize, 64)], f.descAt+int64(group)*f.descSize); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	table := int64(le.Uint32(desc[8:]))
	if f.descSize >= 64 {
		table |= int64(le.Uint32(desc[0x28:])) << 32
	}
	var b [128]byte
	if _, err := f.r.ReadAt(b[:], table*f.size+int64(index)*f.inodeSize); err != nil {
		return nil, err
	}
	in := &inode{
		mode: le.Uint16(b[0:]), links: le.Uint16(b[0x1a:]), flags: le.Uint32(b[0x20:]),
		size: int64(le.Uint32(b[4:])) | int64(le.Uint32(b[0x6c:]))<<32,
	}
	copy(in.block[:], b[0x28:])
	if in.mode == 0 || in.size < 0 {
		return nil, fmt.Errorf("inode %d is not in use: %w", n, errDamaged)
	}
	return in, nil
}

// extent is a part of a file; start 0 reads as zeros.
type extent struct{ logical, length, start int64 }

func (f *ext4) extents(in *inode) ([]extent, error) {
	if in.flags&extentsFlag == 0 {
		return nil, fmt.Errorf("a file without extents: %w", errDamaged)
	}
	return f.walk(in.block[:], maxDepth)
}

// walk lists the extents below a node of the tree.
func (f *ext4) walk(node []byte, depth int) (list []extent, err error) {
	le := binary.LittleEndian
	n := int(le.Uint16(node[2:]))
	if le.Uint16(node) != extentMagic || depth < 0 || 12*(n+1) > len(node) {
		return nil, fmt.Errorf("a tree of extents: %w", errDamaged)
	}
	leaf := le.Uint16(node[6:]) == 0
	for i := range n {
		e := node[12*(i+1):]
		if !leaf {
			at := int64(le.Uint32(e[4:])) | int64(le.Uint16(e[8:]))<<32
			child := make([]byte, f.size)
			if _, err := f.r.ReadAt(child, at*f.size); err != nil {
				return nil, err
			}
			below, err := f.walk(child, depth-1)
			if err != nil {
				return nil, err
			}
			list = append(list, below...)
			continue
		}
		x := extent{int64(le.Uint32(e)), int64(le.Uint16(e[4:])), int64(le.Uint32(e[8:])) | int64(le.Uint16(e[6:]))<<32}
		if x.length > uninitialized {
			x.length, x.start = x.length-uninitialized, 0
		}
		list = append(list, x)
	}
	return list, nil
}

// copy writes the content of a file to w.
func (f *ext4) copy(w io.Writer, in *inode) error {
	list, err := f.extents(in)
	if err != nil {
		return err
	}
	at := int64(0)
	for _, x := range list {
		if x.logical*f.size < at {
			return fmt.Errorf("extents that overlap: %w", errDamaged)
		}
		if err := zeros(w, min(x.logical*f.size, in.size)-at); err != nil {
			return err
		}
		at = min(x.logical*f.size, in.size)
		n := min(x.length*f.size, in.size-at)
		if x.start == 0 {
			err = zeros(w, n)
		} else {
			_, err = io.Copy(w, io.NewSectionReader(f.r, x.start*f.size, n))
		}
		if err != nil {
			return err
		}
		at += n
	}
	return zeros(w, in.size-at)
}

func zeros(w io.Writer, n int64) error {
	var z [block]byte
	for n > 0 {
		k, err := w.Write(z[:min(n, block)])
		if err != nil {
			return err
		}
		n -= int64(k)
	}
	return nil
}

// read returns the content of a file of up to limit bytes.
func (f *ext4) read(in *inode, limit int64) ([]byte, error) {
	if in.size > limit {
		return nil, fmt.Errorf("a file of %d bytes: %w", in.size, errDamaged)
	}
	var b strings.Builder
	err := f.copy(&b, in)
	return []byte(b.String()), err
}

// dirent is a name in a directory.
type dirent struct {
	name  string
	inode uint32
}

func (f *ext4) list(in *inode) (list []dirent, err error) {
	if !in.dir() {
		return nil, fmt.Errorf("not a directory: %w", fs.ErrNotExist)
	}
	data, err := f.read(in, maxDirectory)
	if err != nil {
		return nil, err
	}
	for at := 0; at+8 <= len(data); {
		e := data[at:]
		size, name := int(binary.LittleEndian.Uint16(e[4:])), int(e[6])
		if size < 8 || at+size > len(data) || 8+name > size {
			return nil, fmt.Errorf("a directory: %w", errDamaged)
		}
		if n := binary.LittleEndian.Uint32(e); n != 0 && name > 0 {
			list = append(list, dirent{string(e[8 : 8+name]), n})
		}
		at += size
	}
	return list, nil
}

// find returns the inode of a path; fs.ErrNotExist when there is none.
func (f *ext4) find(path string) (*inode, error) {
	in, err := f.inode(rootInode)
	for name := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		if err != nil {
			return nil, err
		}
		if name != "" {
			in, err = f.child(in, name)
		}
	}
	return in, err
}

func (f *ext4) child(in *inode, name string) (*inode, error) {
	list, err := f.list(in)
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		if e.name == name {
			return f.inode(e.inode)
		}
	}
	return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
}

// file returns the content of a file at a path, of up to limit bytes.
func (f *ext4) file(path string, limit int64) ([]byte, error) {
	in, err := f.find(path)
	if err != nil {
		return nil, err
	}
	return f.read(in, limit)
}

package ubifs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"time"

	"github.com/pantavisor/pantavisor/formats/region"
	"github.com/pantavisor/pantavisor/formats/tree"
)

// errFormat is wrapped by every error about bytes that are not a UBIFS that can be read.
var errFormat = errors.New("not a UBIFS that can be read")

// Magic is how a file system begins.
const Magic = "\x31\x18\x10\x06"

// FS is a file system that is read. Its nodes are found where they are, not by the index; of
// several for one thing the latest counts.
type FS struct {
	r      io.ReaderAt
	size   int64
	block  int64 // of the erase blocks, in bytes
	first  int64 // erase block of files
	super  []byte
	inodes map[uint32]*readInode
	names  map[entryKey]readEntry
}

// readInode is an inode with the places of its data, by block.
type readInode struct {
	sequence uint64
	raw      []byte // the node
	data     map[uint32]readData
}

type readData struct {
	sequence uint64
	run      region.Run
	packed   bool
}

type entryKey struct {
	parent uint32
	name   string
}

type readEntry struct {
	sequence uint64
	inode    uint32
}

// Bounds of what a damaged file system makes us read.
const (
	maxBlock = 64 << 20
	maxNodes = 1 << 22
)

// Open reads the nodes of the file system of a volume of size bytes. Where a node is damaged, the
// result has those before it, beside the error.
func Open(ctx context.Context, r io.ReaderAt, size int64) (*FS, error) {
	f := &FS{r: r, size: size, super: make([]byte, superSize), inodes: map[uint32]*readInode{}, names: map[entryKey]readEntry{}}
	if n, err := r.ReadAt(f.super, 0); n < superSize {
		return nil, fmt.Errorf("reading the superblock: %w", err)
	}
	f.block = int64(le.Uint32(f.super[36:]))
	f.first = int64(logFirst) + int64(le.Uint32(f.super[56:])) + int64(le.Uint32(f.super[60:])) + int64(le.Uint32(f.super[64:]))
	if string(f.super[:4]) != Magic || f.super[20] != superNode || f.block < 8<<10 || f.block > maxBlock || f.first*f.block > size {
		return nil, fmt.Errorf("reading the superblock: blocks of %d bytes, files from block %d on: %w", f.block, f.first, errFormat)
	}
	return f, f.nodes(ctx, f.node)
}

// nodes reads all nodes behind the log in order, with their places.
func (f *FS) nodes(ctx context.Context, take func(n []byte, at int64) error) error {
	buf, nodes := make([]byte, f.block), 0
	for at := f.first * f.block; at+f.block <= f.size; at += f.block {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := f.r.ReadAt(buf, at); err != nil {
			return fmt.Errorf("reading block %d: %w", at/f.block, err)
		}
		n, err := scan(buf, at, take)
		if nodes += n; err == nil && nodes > maxNodes {
			err = fmt.Errorf("it has more than %d nodes: %w", maxNodes, errFormat)
		}
		if err != nil {
			return fmt.Errorf("reading block %d: %w", at/f.block, err)
		}
	}
	return nil
}

// scan reads the nodes of a block and returns their number. What is behind the last one is
// erased.
func scan(b []byte, at int64, take func(n []byte, at int64) error) (nodes int, err error) {
	for off := int64(0); off+headerSize <= int64(len(b)); {
		n := b[off:]
		if string(n[:4]) != Magic {
			if len(bytes.TrimLeft(n, "\xff")) == 0 || len(bytes.TrimLeft(n, "\x00")) == 0 {
				return nodes, nil
			}
			return nodes, fmt.Errorf("there is no node at %d: %w", off, errFormat)
		}
		length := int64(le.Uint32(n[16:]))
		if length < headerSize || length > int64(len(n)) {
			return nodes, fmt.Errorf("the node at %d has %d bytes: %w", off, length, errFormat)
		}
		if ^crc32.ChecksumIEEE(n[8:length]) != le.Uint32(n[4:]) {
			return nodes, fmt.Errorf("the checksum of the node at %d is wrong: %w", off, errFormat)
		}
		if err := take(n[:length], at+off); err != nil {
			return nodes, fmt.Errorf("the node at %d: %w", off, err)
		}
		nodes++
		if off += (length + 7) &^ 7; n[20] == padNode && length >= padSize {
			off += int64(le.Uint32(n[headerSize:]))
		}
	}
	return nodes, nil
}

// node takes one node.
func (f *FS) node(n []byte, at int64) error {
	sequence := le.Uint64(n[8:])
	smallest := map[byte]int{inodeNode: inodeSize, dataNode: dataSize, entryNode: entrySize}[n[20]]
	if len(n) < smallest {
		return fmt.Errorf("it has %d bytes: %w", len(n), errFormat)
	}
	switch n[20] {
	case inodeNode:
		i := f.inode(le.Uint32(n[24:]))
		if sequence >= i.sequence {
			i.sequence, i.raw = sequence, bytes.Clone(n)
		}
	case dataNode:
		if len(n)-dataSize > blockSize {
			return fmt.Errorf("it has %d bytes of data: %w", len(n)-dataSize, errFormat)
		}
		number, block := le.Uint32(n[24:]), le.Uint32(n[28:])&(1<<29-1)
		i := f.inode(number)
		if d := (readData{sequence, region.Run{Offset: int64(block) * blockSize, Length: int64(len(n) - dataSize), From: at + dataSize}, le.Uint16(n[44:]) != 0}); sequence >= i.data[block].sequence {
			i.data[block] = d
		}
	case entryNode:
		length := int(le.Uint16(n[50:]))
		if entrySize+length > len(n) {
			return fmt.Errorf("its name has %d bytes: %w", length, errFormat)
		}
		key := entryKey{le.Uint32(n[24:]), string(n[entrySize : entrySize+length])}
		if old, ok := f.names[key]; !ok || sequence >= old.sequence {
			f.names[key] = readEntry{sequence, uint32(le.Uint64(n[40:]))}
		}
	case indexNode:
	}
	return nil
}

func (f *FS) inode(number uint32) *readInode {
	if f.inodes[number] == nil {
		f.inodes[number] = &readInode{data: map[uint32]readData{}}
	}
	return f.inodes[number]
}

// UUID returns the identifier in hex, BlockSize the size of erase blocks in bytes.
func (f *FS) UUID() string   { return fmt.Sprintf("%x", f.super[108:124]) }
func (f *FS) BlockSize() int { return int(le.Uint32(f.super[36:])) }

// File is a name in a file system.
type File struct {
	tree.Entry
	// Inode is its number.
	Inode uint32
	// Content is that of a regular file.
	Content *region.Mapped
}

// Walk calls do for every name, the root first and a directory before what is in it, sorted.
// Further names of a file are hard links.
func (f *FS) Walk(ctx context.Context, do func(*File) error) error {
	children := map[uint32][]string{}
	for key, e := range f.names {
		if e.inode != 0 { // 0: it was removed
			children[key.parent] = append(children[key.parent], key.name)
		}
	}
	first := map[uint32]string{}
	var walk func(number uint32, name string) error
	walk = func(number uint32, name string) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := f.file(number, name)
		if err != nil {
			return err
		}
		if at, ok := first[number]; ok {
			if n.Mode.IsDir() {
				return fmt.Errorf("directory %s has two names: %w", name, errFormat)
			}
			n.HardLink = at
		}
		first[number] = name
		if err := do(n); err != nil || !n.Mode.IsDir() {
			return err
		}
		slices.Sort(children[number])
		for _, child := range children[number] {
			if tree.CheckName(child) != nil || path.Base(child) != child {
				return fmt.Errorf("directory %s has the name %.300q: %w", name, child, errFormat)
			}
			if err := walk(f.names[entryKey{number, child}].inode, path.Join(name, child)); err != nil {
				return err
			}
		}
		return nil
	}
	return walk(rootInode, ".")
}

// file returns the file of an inode.
func (f *FS) file(number uint32, name string) (*File, error) {
	i := f.inodes[number]
	if i == nil || i.raw == nil {
		return nil, fmt.Errorf("%s has inode %d, which is not there: %w", name, number, errFormat)
	}
	b := i.raw
	n := &File{Inode: number}
	n.Entry = tree.Entry{
		Name: name, Mode: tree.FileMode(le.Uint32(b[104:])), UID: le.Uint32(b[96:]), GID: le.Uint32(b[100:]),
		ModTime: time.Unix(int64(le.Uint64(b[72:])), int64(le.Uint32(b[88:]))).UTC(),
	}
	inside := b[inodeSize:]
	switch n.Mode.Type() {
	case fs.ModeSymlink:
		n.Link = string(inside)
	case 0:
		n.Size = int64(le.Uint64(b[48:]))
		if n.Size < 0 || n.Size > limits.Size {
			return nil, fmt.Errorf("%s has %d bytes: %w", name, n.Size, errFormat)
		}
		var runs []region.Run
		for _, block := range slices.Sorted(maps.Keys(i.data)) {
			if i.data[block].packed {
				return nil, fmt.Errorf("%s is compressed: %w", name, errFormat)
			}
			runs = append(runs, i.data[block].run)
		}
		content := region.NewMapped(f.r, n.Size, runs)
		n.Content = content
		n.Open = func() (io.ReadCloser, error) { return io.NopCloser(content.Reader()), nil }
	}
	return n, nil
}

// Regions describes the file system. Blocks of files are named by their inode. It reads the nodes
// again: they may be many, and few are asked for.
func (f *FS) Regions(ctx context.Context, add region.Add) error {
	add.Own(0, f.size, "a part that no node uses")
	add.Own(0, f.block, "superblock")
	add.Own(f.block, masterBlocks*f.block, "master node")
	add.Own(logFirst*f.block, (f.first-logFirst)*f.block, "log, tree of properties and orphans")
	return f.nodes(ctx, func(n []byte, at int64) error {
		describe(n, at, add)
		return nil
	})
}

// maxShown is how much of the name of an entry its region has, in bytes.
const maxShown = 300

// describe adds the region of a node.
func describe(n []byte, at int64, add region.Add) {
	length := int64(len(n))
	switch {
	case n[20] == inodeNode && len(n) >= inodeSize:
		add.Own(at, length, "inode %d", le.Uint32(n[24:]))
	case n[20] == dataNode && len(n) >= dataSize:
		add.Own(at, length, "block %d of inode %d", le.Uint32(n[28:])&(1<<29-1), le.Uint32(n[24:]))
	case n[20] == entryNode && len(n) >= entrySize:
		name := n[entrySize:]
		name = name[:min(len(name), int(le.Uint16(n[50:])), maxShown)]
		add.Own(at, length, "entry %q of directory %d", string(name), le.Uint32(n[24:]))
	case n[20] == indexNode:
		add.Own(at, length, "node of the index")
	}
}

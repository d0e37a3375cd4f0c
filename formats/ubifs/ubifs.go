// Package ubifs writes UBIFS file systems for UBI volumes of raw flash (kernel:
// fs/ubifs/ubifs-media.h). Numbers are little-endian.
//
// A file system is a sequence of logical erase blocks: superblock, two copies of the master
// node, the log, the tree of the blocks' properties (lpt.go), the orphans, and then the main
// area with the nodes of files and the index that finds them (index.go). Data is stored as it
// is: images hold what is compressed already. What is written later is compressed.
package ubifs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path"
	"time"

	"github.com/pantavisor/pantavisor/formats/tree"
)

// Options describe the volume.
type Options struct {
	// Block is the size of a logical erase block in bytes, Page that of the smallest write.
	Block, Page int
	// MaxBlocks is how many blocks the file system may grow to.
	MaxBlocks int
	// UUID is the identifier of the file system.
	UUID [16]byte
	// Time is that of all files.
	Time time.Time
}

// Limits are what a file system holds here.
var limits = tree.Limits{Format: "UBIFS", Symlinks: true, HardLinks: true, Name: 255, Target: blockSize, Size: 1 << 40}

// Types of nodes.
const (
	inodeNode  = 0
	dataNode   = 1
	entryNode  = 2
	padNode    = 5
	superNode  = 6
	masterNode = 7
	indexNode  = 9
	startNode  = 10 // of a commit
)

// Sizes and numbers of the format.
const (
	magic      = 0x06101831
	headerSize = 24
	inodeSize  = 160
	dataSize   = 48
	entrySize  = 56
	padSize    = 28
	superSize  = 4096
	masterSize = 512
	startSize  = 32
	refSize    = 64
	blockSize  = 4096 // of a file

	rootInode    = 1
	firstInode   = 64 // those before it are reserved
	compressLZO  = 1
	compressFlag = 1
	version      = 4

	superBlocks  = 1
	masterBlocks = 2
	orphanBlocks = 1
	logFirst     = superBlocks + masterBlocks
	minLog       = 2
	minLPT       = 2

	minWrite = dataSize + 8
	maxNode  = inodeSize + blockSize
)

// Flags of superblock and master node.
const (
	bigTreeFlag  = 2 // of properties
	fixSpaceFlag = 4 // erased pages may have been written by whoever flashed them
	noOrphans    = 2
)

var le = binary.LittleEndian

// writer is a file system under construction.
type writer struct {
	Options
	out      io.WriterAt
	geometry geometry

	sequence uint64
	inodes   uint64 // the highest number
	block    int    // that is being filled
	head     []byte // its content
	index    []indexEntry
	used     []properties // of the blocks of the main area
	sums     sums

	files map[string]*file
	order []*file
}

// file is an inode.
type file struct {
	entry tree.Entry
	inode uint64
	links uint32
	size  int64
	// created is its sequence number: those of its nodes are higher.
	created uint64
}

// TooSmall is the error for files that do not fit MaxBlocks.
type TooSmall struct{ Need, Have int }

func (e *TooSmall) Error() string {
	return fmt.Sprintf("the files need %d erase blocks; the file system may have %d", e.Need, e.Have)
}

// Write writes a file system with the entries, which are sorted by [tree.Compare] and belong
// to root, and returns how many blocks it has.
func Write(out io.WriterAt, entries []tree.Entry, o Options) (blocks int, err error) {
	g, err := layout(o)
	if err != nil {
		return 0, err
	}
	w := &writer{Options: o, out: out, geometry: g, inodes: firstInode, block: g.mainFirst, files: map[string]*file{}}
	if err := w.collect(entries); err != nil {
		return 0, err
	}
	for _, step := range []func() error{w.writeFiles, w.writeEntries(entries), w.writeIndex} {
		if err := step(); err != nil {
			return 0, err
		}
	}
	if w.block > o.MaxBlocks {
		return 0, &TooSmall{w.block, o.MaxBlocks}
	}
	return w.block, w.finish()
}

// collect gives the files their numbers and counts links and sizes of directories.
func (w *writer) collect(entries []tree.Entry) error {
	root := &file{entry: tree.Dir(".", 0o755), inode: rootInode, links: 2, size: inodeSize}
	w.files["."], w.order = root, []*file{root}
	for i := range entries {
		e := &entries[i]
		if err := limits.Check(e); err != nil {
			return err
		}
		if e.Name == "." {
			root.entry = *e
			continue
		}
		parent, ok := w.files[path.Dir(e.Name)]
		if !ok || !parent.entry.Mode.IsDir() || w.files[e.Name] != nil {
			return fmt.Errorf("%.200q comes twice or before its directory", e.Name)
		}
		parent.size += int64(align(entrySize+len(path.Base(e.Name))+1, 8))
		if err := w.number(*e, parent); err != nil {
			return err
		}
	}
	return nil
}

// number makes the inode of an entry, or another link to one.
func (w *writer) number(e tree.Entry, parent *file) error {
	if e.HardLink != "" {
		f, ok := w.files[e.HardLink]
		if !ok || f.entry.Mode.IsDir() {
			return fmt.Errorf("%.200q is a hard link to %.200q, which is not a file before it", e.Name, e.HardLink)
		}
		f.links++
		w.files[e.Name] = f
		return nil
	}
	w.inodes++
	f := &file{entry: e, inode: w.inodes, links: 1, size: e.Size}
	switch {
	case e.Mode.IsDir():
		f.links, f.size = 2, inodeSize
		parent.links++
	case e.Mode.Type() == fs.ModeSymlink:
		f.size = int64(len(e.Link))
	}
	w.files[e.Name] = f
	w.order = append(w.order, f)
	return nil
}

// writeFiles writes the data and the inodes.
func (w *writer) writeFiles() error {
	for _, f := range w.order {
		w.sequence++
		f.created = w.sequence
		if f.entry.Mode.IsRegular() {
			if err := w.data(f); err != nil {
				return fmt.Errorf("writing %.200q: %w", f.entry.Name, err)
			}
		}
		if err := w.inode(f); err != nil {
			return err
		}
	}
	return nil
}

// data writes the blocks of a file; those of zeros are holes.
func (w *writer) data(f *file) error {
	b := &blocks{w: w, inode: f.inode}
	if err := f.entry.WriteContent(b); err != nil {
		return err
	}
	return b.flush()
}

// blocks writes what it gets as data nodes.
type blocks struct {
	w      *writer
	inode  uint64
	number uint32
	buffer []byte
}

func (b *blocks) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		k := min(len(p), blockSize-len(b.buffer))
		b.buffer, p = append(b.buffer, p[:k]...), p[k:]
		if len(b.buffer) == blockSize {
			if err := b.flush(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

func (b *blocks) flush() error {
	number, data := b.number, b.buffer
	b.number, b.buffer = b.number+1, b.buffer[:0]
	if len(bytes.TrimLeft(data, "\x00")) == 0 {
		return nil
	}
	k := key{b.inode, keyData, number}
	node := make([]byte, dataSize, dataSize+len(data))
	k.put(node[headerSize:])
	le.PutUint32(node[40:], uint32(len(data)))
	return b.w.add(dataNode, k, "", append(node, data...))
}

// kinds are the types of inodes in directory entries.
func kind(m fs.FileMode) byte {
	switch {
	case m.IsDir():
		return 1
	case m.Type() == fs.ModeSymlink:
		return 2
	}
	return 0
}

// modes are the type bits of inodes (stat(2)).
var modes = [3]uint32{0o100000, 0o040000, 0o120000}

// permissions returns a mode as stat(2) has it.
func permissions(m fs.FileMode) uint32 {
	out := uint32(m.Perm()) | modes[kind(m)]
	for bit, set := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if m&set != 0 {
			out |= bit
		}
	}
	return out
}

func (w *writer) inode(f *file) error {
	k := key{f.inode, keyInode, 0}
	node := make([]byte, inodeSize, inodeSize+len(f.entry.Link))
	k.put(node[headerSize:])
	le.PutUint64(node[40:], f.created)
	le.PutUint64(node[48:], uint64(f.size))
	for _, at := range []int{56, 64, 72} {
		le.PutUint64(node[at:], uint64(w.Time.Unix()))
	}
	le.PutUint32(node[92:], f.links)
	le.PutUint32(node[96:], f.entry.UID)
	le.PutUint32(node[100:], f.entry.GID)
	le.PutUint32(node[104:], permissions(f.entry.Mode))
	le.PutUint32(node[108:], compressFlag)
	le.PutUint32(node[112:], uint32(len(f.entry.Link)))
	le.PutUint16(node[132:], compressLZO)
	return w.add(inodeNode, k, "", append(node, f.entry.Link...))
}

// writeEntries returns the step that writes the directories' entries.
func (w *writer) writeEntries(entries []tree.Entry) func() error {
	return func() error {
		for i := range entries {
			name := entries[i].Name
			if name == "." {
				continue
			}
			base, f := path.Base(name), w.files[name]
			k := key{w.files[path.Dir(name)].inode, keyEntry, hash(base)}
			node := make([]byte, entrySize, entrySize+len(base)+1)
			k.put(node[headerSize:])
			le.PutUint64(node[40:], f.inode)
			node[49] = kind(f.entry.Mode)
			le.PutUint16(node[50:], uint16(len(base)))
			if err := w.add(entryNode, k, base, append(append(node, base...), 0)); err != nil {
				return err
			}
		}
		return w.flush(0)
	}
}

// add writes a node of the main area and notes it in the index.
func (w *writer) add(typ byte, k key, name string, node []byte) error {
	at, err := w.place(typ, node, 0)
	at.key, at.name = k, name
	w.index = append(w.index, at)
	return err
}

// place writes a node to the block that is being filled, or to a new one.
func (w *writer) place(typ byte, node []byte, flags int) (indexEntry, error) {
	if len(w.head)+len(node) > w.Block {
		if err := w.flush(flags); err != nil {
			return indexEntry{}, err
		}
	}
	w.prepare(typ, node)
	at := indexEntry{block: w.block, offset: len(w.head), length: len(node)}
	w.head = append(w.head, node...)
	w.head = append(w.head, bytes.Repeat([]byte{0xFF}, align(len(node), 8)-len(node))...)
	return at, nil
}

// flush writes the block that is being filled.
func (w *writer) flush(flags int) error {
	if len(w.head) == 0 {
		return nil
	}
	w.note(len(w.head), flags)
	if err := w.write(w.block, w.head); err != nil {
		return err
	}
	w.block, w.head = w.block+1, w.head[:0]
	return nil
}

// prepare fills in the common header of a node.
func (w *writer) prepare(typ byte, node []byte) {
	w.sequence++
	seal(typ, w.sequence, node)
}

func seal(typ byte, sequence uint64, node []byte) {
	le.PutUint32(node, magic)
	le.PutUint64(node[8:], sequence)
	le.PutUint32(node[16:], uint32(len(node)))
	node[20] = typ
	le.PutUint32(node[4:], ^crc32.ChecksumIEEE(node[8:])) // without the last inversion
}

// write writes a block, filled up to whole pages.
func (w *writer) write(block int, data []byte) error {
	data = w.pad(data)
	whole := append(data, bytes.Repeat([]byte{0xFF}, w.Block-len(data))...)
	_, err := w.out.WriteAt(whole, int64(block)*int64(w.Block))
	return err
}

// pad fills a block up to whole pages with a node for that.
func (w *writer) pad(data []byte) []byte {
	out := bytes.Clone(data)
	for len(out)%8 != 0 {
		out = append(out, 0xFF)
	}
	switch free := align(len(out), w.Page) - len(out); {
	case free >= padSize:
		node := make([]byte, padSize)
		le.PutUint32(node[headerSize:], uint32(free-padSize))
		seal(padNode, 0, node)
		return append(append(out, node...), make([]byte, free-padSize)...)
	case free > 0:
		return append(out, bytes.Repeat([]byte{0xCE}, free)...)
	}
	return out
}

func align(n, to int) int { return (n + to - 1) / to * to }

// single writes a block with one node.
func (w *writer) single(block int, typ byte, node []byte) error {
	w.prepare(typ, node)
	return w.write(block, node)
}

// finish writes what describes the main area.
func (w *writer) finish() error {
	p, err := w.writeProperties()
	if err != nil {
		return err
	}
	master := w.master(p)
	for _, one := range []struct {
		block int
		typ   byte
		node  []byte
	}{
		{0, superNode, w.super()}, {superBlocks, masterNode, master}, {superBlocks + 1, masterNode, bytes.Clone(master)}, {logFirst, startNode, make([]byte, startSize)},
	} {
		if err := w.single(one.block, one.typ, one.node); err != nil {
			return err
		}
	}
	return w.erase(p)
}

// erase writes the blocks that hold nothing: of the log, the tree of properties and the
// orphans, and that of the garbage collector.
func (w *writer) erase(p lptPlaces) error {
	empty := []int{w.sums.gcBlock}
	for b := logFirst + 1; b < w.geometry.mainFirst; b++ {
		if b < w.geometry.lptFirst || b > p.head.block {
			empty = append(empty, b)
		}
	}
	for _, b := range empty {
		if err := w.write(b, nil); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) super() []byte {
	g, node := w.geometry, make([]byte, superSize)
	flags := uint32(fixSpaceFlag)
	if g.big {
		flags |= bigTreeFlag
	}
	for at, v := range map[int]uint32{
		28: flags, 32: uint32(w.Page), 36: uint32(w.Block), 40: uint32(w.block), 44: uint32(w.MaxBlocks), 56: uint32(g.logBlocks), 60: uint32(g.lptBlocks),
		64: orphanBlocks, 68: 1, 72: fanout, 76: saved, 80: version, 104: 1_000_000_000,
	} {
		le.PutUint32(node[at:], v)
	}
	le.PutUint64(node[48:], uint64(g.journal))
	le.PutUint16(node[84:], compressLZO)
	copy(node[108:], w.UUID[:])
	return node
}

// master returns the master node.
func (w *writer) master(p lptPlaces) []byte {
	node, root := make([]byte, masterSize), w.index[0]
	for at, v := range map[int]uint32{
		40: noOrphans, 44: logFirst, 48: uint32(root.block), 52: uint32(root.offset), 56: uint32(root.length), 60: uint32(w.sums.gcBlock),
		64: uint32(w.sums.indexBlock), 68: uint32(w.sums.indexOffset), 120: uint32(p.root.block), 124: uint32(p.root.offset),
		128: uint32(p.head.block), 132: uint32(p.head.offset), 136: uint32(p.table.block), 140: uint32(p.table.offset),
		144: uint32(p.save.block), 148: uint32(p.save.offset), 152: uint32(w.geometry.mainFirst), 156: uint32(w.sums.empty),
		160: uint32(w.sums.indexBlocks), 164: uint32(w.block),
	} {
		le.PutUint32(node[at:], v)
	}
	for at, v := range map[int]int64{
		24: int64(w.inodes), 72: w.sums.indexSize, 80: w.sums.free, 88: w.sums.dirty, 96: w.sums.used, 104: w.sums.dead, 112: w.sums.dark,
	} {
		le.PutUint64(node[at:], uint64(v))
	}
	return node
}

// errGeometry is for erase blocks that no file system fits.
var errGeometry = errors.New("a UBIFS is not possible")

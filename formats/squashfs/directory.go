package squashfs

import (
	"fmt"
	"maps"
	"math"
	"slices"
)

// maxListing is the longest listing in bytes: the kernel counts it in an int.
const maxListing = math.MaxInt32

const (
	maxRun     = 256 // entries behind one directory header
	dirHeader  = 12
	dirEntry   = 8
	dirPadding = 3 // the kernel counts "." and ".." into a listing's size
)

// indexEntry lets the kernel skip to the middle of a long listing.
type indexEntry struct {
	offset uint32 // of a header, from the start of the listing
	block  uint32 // metadata block that holds it
	name   string // first name behind it
}

// number gives every inode its number, directories after their contents, so that
// the inodes of one directory are neighbours.
func (w *Writer) number(n *node) {
	names := slices.Sorted(maps.Keys(n.children))
	for _, name := range names {
		if c := n.children[name]; c.typ == typeDir {
			w.number(c)
		}
	}
	for _, name := range names {
		if c := n.children[name]; c.typ != typeDir && c.number == 0 {
			w.inodes++
			c.number = w.inodes
		}
	}
	w.inodes++
	n.number = w.inodes
}

// writeDir writes the inodes below a directory, its listing, and its own inode.
func (w *Writer) writeDir(n *node) error {
	names := slices.Sorted(maps.Keys(n.children))
	n.links = 2
	for _, name := range names {
		if c := n.children[name]; c.typ == typeDir {
			n.links++
			if err := w.writeDir(c); err != nil {
				return err
			}
		}
	}
	for _, name := range names {
		if c := n.children[name]; c.typ != typeDir && !c.written {
			w.writeInode(c, c.encode())
		}
	}
	start := w.dirTable.position()
	if listingSize(names) > maxListing {
		return fmt.Errorf("a directory of %d names needs a listing of more than %d bytes", len(names), maxListing)
	}
	size, index := w.writeListing(n, names)
	w.writeInode(n, n.encodeDir(w.parentNumber(n), start, size, index))
	return nil
}

// listingSize returns the most that the listing of a directory may take.
func listingSize(names []string) (size int64) {
	for _, name := range names {
		size += dirHeader + dirEntry + int64(len(name))
	}
	return size
}

func (w *Writer) parentNumber(n *node) uint32 {
	if n.parent == nil {
		return w.inodes + 1
	}
	return n.parent.number
}

func (w *Writer) writeInode(n *node, b []byte) {
	n.at, n.written = w.inodeTable.position(), true
	w.inodeTable.write(b)
	w.exports[n.number-1] = n.at.ref()
}

// writeListing writes runs of entries. A run ends when the inodes' block changes,
// a number is out of the reach of its 16 bits, 256 names are together, or a
// metadata block's worth is full, which is where an index entry is due.
func (w *Writer) writeListing(n *node, names []string) (uint32, []indexEntry) {
	var size uint32
	var index []indexEntry
	nextIndex := uint32(metadataSize)
	for len(names) > 0 {
		run := w.run(n, names)
		// The index has at most 65535 entries; the kernel reads on from the last one.
		if size+runSize(names[:run]) > nextIndex && size > 0 && len(index) < math.MaxUint16 {
			index = append(index, indexEntry{size, w.dirTable.position().block, names[0]})
			nextIndex = size + metadataSize
		}
		size += w.writeRun(n, names[:run])
		names = names[run:]
	}
	return size, index
}

func runSize(names []string) uint32 {
	size := dirHeader
	for _, name := range names {
		size += dirEntry + len(name)
	}
	return uint32(size)
}

func (w *Writer) run(n *node, names []string) int {
	first := n.children[names[0]]
	size := dirHeader
	for i, name := range names {
		c := n.children[name]
		delta := int64(c.number) - int64(first.number)
		size += dirEntry + len(name)
		if i == maxRun || c.at.block != first.at.block || delta < math.MinInt16 || delta > math.MaxInt16 || i > 0 && size > metadataSize {
			return i
		}
	}
	return len(names)
}

func (w *Writer) writeRun(n *node, names []string) uint32 {
	first := n.children[names[0]]
	b := le.AppendUint32(nil, uint32(len(names)-1))
	b = le.AppendUint32(b, first.at.block)
	b = le.AppendUint32(b, first.number)
	for _, name := range names {
		c := n.children[name]
		b = le.AppendUint16(b, c.at.offset)
		b = le.AppendUint16(b, uint16(int16(int64(c.number)-int64(first.number))))
		b = le.AppendUint16(b, c.typ)
		b = le.AppendUint16(b, uint16(len(name)-1))
		b = append(b, name...)
	}
	w.dirTable.write(b)
	return uint32(len(b))
}

func (n *node) encodeDir(parent uint32, start position, size uint32, index []indexEntry) []byte {
	size += dirPadding
	ext := n.xattr != noXattr || size > math.MaxUint16 || len(index) > 0
	b := n.header(ext)
	if !ext {
		b = le.AppendUint32(b, start.block)
		b = le.AppendUint32(b, n.links)
		b = le.AppendUint16(b, uint16(size))
		b = le.AppendUint16(b, start.offset)
		return le.AppendUint32(b, parent)
	}
	b = le.AppendUint32(b, n.links)
	b = le.AppendUint32(b, size)
	b = le.AppendUint32(b, start.block)
	b = le.AppendUint32(b, parent)
	b = le.AppendUint16(b, uint16(len(index)))
	b = le.AppendUint16(b, start.offset)
	b = le.AppendUint32(b, n.xattr)
	for _, e := range index {
		b = le.AppendUint32(b, e.offset)
		b = le.AppendUint32(b, e.block)
		b = le.AppendUint32(b, uint32(len(e.name)-1))
		b = append(b, e.name...)
	}
	return b
}

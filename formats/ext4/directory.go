package ext4

import (
	"io/fs"
	"path"
)

// Bytes of a directory's blocks.
const (
	entryHead = 8  // of an entry, before its name
	dirTail   = 12 // an entry without a name that has the checksum
	tailType  = 0xDE
	dotsSize  = 24 // the entries "." and ".."
)

// name is an entry of a directory.
type name struct {
	text        string
	inode       uint32
	kind        byte
	hash, minor uint32
}

func (n *name) size() int { return (entryHead + len(n.text) + 3) &^ 3 }

// kindOf returns the type of a file as directories have it.
func kindOf(m fs.FileMode) byte {
	switch m.Type() {
	case 0:
		return 1
	case fs.ModeDir:
		return 2
	case fs.ModeDevice | fs.ModeCharDevice:
		return 3
	case fs.ModeDevice:
		return 4
	case fs.ModeNamedPipe:
		return 5
	case fs.ModeSocket:
		return 6
	default:
		return 7
	}
}

// names returns what is in a directory, without "." and "..".
func (w *writer) names(dir int32) []name {
	var out []name
	for i := w.nodes[dir].first; i != 0; i = w.nodes[i].next {
		n := &w.nodes[i]
		out = append(out, name{text: path.Base(n.Name), inode: n.inode, kind: kindOf(w.nodes[n.file].Mode)})
	}
	return out
}

// dots returns the entries "." and "..".
func (w *writer) dots(dir int32) []name {
	parent := w.nodes[w.byName[path.Dir(w.nodes[dir].Name)]].inode
	return []name{{text: ".", inode: w.nodes[dir].inode, kind: 2}, {text: "..", inode: parent, kind: 2}}
}

// directory writes the blocks of a directory and returns its size.
func (w *writer) directory(dir int32, n *inode, x *extents) (int64, error) {
	d := &dirBlocks{size: int(w.block), sum: x.sum}
	dots, names := w.dots(dir), w.names(dir)
	size := dotsSize
	for i := range names {
		size += names[i].size()
	}
	if size > d.room() {
		if d.indexed(dots, names, w.opts.HashSeed) {
			n.flags |= indexFlag
		} else {
			d.linear(append(dots, names...))
		}
	} else {
		d.leaf(append(dots, names...))
	}
	for dir == lostFoundNode && int64(len(d.data)) < lostFoundSize(w.block) {
		d.leaf(nil)
	}
	return int64(len(d.data)), w.store(x, 0, d.data)
}

// lostFoundSize is the room in lost+found that a check of the file system finds ready: as in
// mke2fs, 16 KiB or 12 blocks.
func lostFoundSize(block int64) int64 { return min(16<<10, 12*block) }

// dirBlocks are the blocks of a directory.
type dirBlocks struct {
	size int // of a block
	sum  uint32
	data []byte
}

// room is the number of bytes for entries in a block.
func (d *dirBlocks) room() int { return d.size - dirTail }

// leaf appends a block with entries that fit.
func (d *dirBlocks) leaf(names []name) {
	b := make([]byte, d.size)
	at, last := 0, 0
	for i := range names {
		last = at
		at += putName(b[at:], &names[i])
	}
	le.PutUint16(b[last+4:], uint16(d.room()-last))
	tail := b[d.room():]
	le.PutUint16(tail[4:], dirTail)
	tail[7] = tailType
	le.PutUint32(tail[8:], checksum(d.sum, b[:d.room()]))
	d.data = append(d.data, b...)
}

// putName writes an entry and returns its size.
func putName(b []byte, n *name) int {
	le.PutUint32(b, n.inode)
	le.PutUint16(b[4:], uint16(n.size()))
	b[6], b[7] = byte(len(n.text)), n.kind
	copy(b[entryHead:], n.text)
	return n.size()
}

// fill returns how many of the first names fit into a block.
func (d *dirBlocks) fill(names []name) int {
	size := 0
	for i := range names {
		if size += names[i].size(); size > d.room() {
			return i
		}
	}
	return len(names)
}

// linear appends blocks with all names.
func (d *dirBlocks) linear(names []name) {
	for len(names) > 0 {
		n := d.fill(names)
		d.leaf(names[:n])
		names = names[n:]
	}
}

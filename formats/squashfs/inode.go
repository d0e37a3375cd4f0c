package squashfs

import (
	"io/fs"
	"math"
)

// Inode types; the extended forms are 7 above the basic ones.
const (
	typeDir      = 1
	typeFile     = 2
	typeSymlink  = 3
	typeBlock    = 4
	typeChar     = 5
	typeFifo     = 6
	typeSocket   = 7
	extendedType = 7
)

// node is one inode of the image.
type node struct {
	typ      uint16
	perm     uint16
	uid, gid uint16 // indices of the ID table
	mtime    uint32
	xattr    uint32
	number   uint32
	links    uint32
	at       position // in the inode table, once written
	written  bool

	link     string // symbolic link
	device   uint32 // block and character devices
	data     *content
	children map[string]*node // directories
	parent   *node
}

// nodeTypes are by the type bits that [tree.Limits] has let through.
var nodeTypes = map[fs.FileMode]uint16{
	0: typeFile, fs.ModeDir: typeDir, fs.ModeSymlink: typeSymlink, fs.ModeDevice: typeBlock,
	fs.ModeDevice | fs.ModeCharDevice: typeChar, fs.ModeNamedPipe: typeFifo, fs.ModeSocket: typeSocket,
}

func nodeType(m fs.FileMode) uint16 { return nodeTypes[m.Type()] }

// deviceNumber is the kernel's 32-bit form: 12 bits of major in the middle.
func deviceNumber(major, minor uint32) uint32 {
	return minor&0xff | major<<8 | minor&^0xff<<12
}

// extended reports whether the basic form cannot hold the inode.
func (n *node) extended() bool {
	if n.xattr != noXattr {
		return true
	}
	if n.typ != typeFile {
		return false
	}
	d := n.data
	return n.links > 1 || d.sparse > 0 || d.size > math.MaxUint32 || d.start > math.MaxUint32
}

// header is what all inodes begin with.
func (n *node) header(extended bool) []byte {
	typ := n.typ
	if extended {
		typ += extendedType
	}
	b := le.AppendUint16(nil, typ)
	b = le.AppendUint16(b, n.perm)
	b = le.AppendUint16(b, n.uid)
	b = le.AppendUint16(b, n.gid)
	b = le.AppendUint32(b, n.mtime)
	return le.AppendUint32(b, n.number)
}

// encode returns the inode of anything but a directory.
func (n *node) encode() []byte {
	ext := n.extended()
	b := n.header(ext)
	switch n.typ {
	case typeFile:
		return n.appendFile(b, ext)
	case typeSymlink:
		b = le.AppendUint32(b, n.links)
		b = le.AppendUint32(b, uint32(len(n.link)))
		b = append(b, n.link...)
	case typeBlock, typeChar:
		b = le.AppendUint32(b, n.links)
		b = le.AppendUint32(b, n.device)
	default:
		b = le.AppendUint32(b, n.links)
	}
	if ext {
		b = le.AppendUint32(b, n.xattr)
	}
	return b
}

func (n *node) appendFile(b []byte, ext bool) []byte {
	d := n.data
	if ext {
		b = le.AppendUint64(b, uint64(d.start))
		b = le.AppendUint64(b, uint64(d.size))
		b = le.AppendUint64(b, uint64(d.sparse))
		b = le.AppendUint32(b, n.links)
		b = le.AppendUint32(b, d.fragment)
		b = le.AppendUint32(b, d.offset)
		b = le.AppendUint32(b, n.xattr)
	} else {
		b = le.AppendUint32(b, uint32(d.start))
		b = le.AppendUint32(b, d.fragment)
		b = le.AppendUint32(b, d.offset)
		b = le.AppendUint32(b, uint32(d.size))
	}
	for _, size := range d.blocks {
		b = le.AppendUint32(b, size)
	}
	return b
}

package ext4

import (
	"math"
	"time"

	"github.com/pantavisor/pantavisor/formats/tree"
)

// Flags of inodes.
const (
	indexFlag   = 0x1000
	extentsFlag = 0x80000
)

// extraSize is the number of bytes of an inode's fields behind the first 128; extended
// attributes follow.
const extraSize = 32

// inode is what an inode says.
type inode struct {
	*tree.Entry
	number     uint32
	links      uint32
	mode       uint32
	size       int64
	blocks     int64 // all that belong to it
	flags      uint32
	body       []byte // up to 60 bytes: extents, a device number or a short link
	attributes []byte // those in the inode
	attrBlock  int64  // that of the others
}

// seedOf returns the start of all checksums that belong to an inode.
func (w *writer) seedOf(number uint32) uint32 {
	return checksumOf(checksumOf(w.seed, number), 0) // 0 is the generation
}

// put writes an inode to its table.
func (w *writer) put(n *inode) {
	b := make([]byte, inodeSize)
	le.PutUint16(b, uint16(n.mode))
	le.PutUint16(b[2:], uint16(n.UID))
	le.PutUint32(b[4:], uint32(n.size))
	le.PutUint16(b[24:], uint16(n.GID))
	le.PutUint16(b[26:], uint16(n.links))
	sectors := n.blocks * w.block / 512
	le.PutUint32(b[28:], uint32(sectors))
	le.PutUint32(b[32:], n.flags)
	copy(b[40:100], n.body)
	le.PutUint32(b[104:], uint32(n.attrBlock))
	le.PutUint32(b[108:], uint32(n.size>>32))
	le.PutUint16(b[116:], uint16(sectors>>32))
	le.PutUint16(b[118:], uint16(n.attrBlock>>32))
	le.PutUint16(b[120:], uint16(n.UID>>16))
	le.PutUint16(b[122:], uint16(n.GID>>16))
	le.PutUint16(b[128:], extraSize)
	w.putTimes(b, n.ModTime)
	copy(b[128+extraSize:], n.attributes)
	sum := checksum(w.seedOf(n.number), b)
	le.PutUint16(b[124:], uint16(sum))
	le.PutUint16(b[130:], uint16(sum>>16))
	group, at := w.inodePlace(n.number)
	w.table.write(w.tables[group]*w.block+at*inodeSize, b)
	if n.mode&0o170000 == 0o040000 {
		w.countDirectory(group)
	}
}

// inodePlace returns the group of an inode and its place there.
func (w *writer) inodePlace(number uint32) (group, at int64) {
	return int64(number-1) / w.inodes, int64(number-1) % w.inodes
}

// putTimes sets access, change, modification and creation, all to the same time: there is
// one in an entry.
func (w *writer) putTimes(b []byte, t time.Time) {
	if t.IsZero() {
		t = w.opts.Time
	}
	low, extra := encodeTime(t)
	for _, at := range []int{8, 12, 16, 144} {
		le.PutUint32(b[at:], low)
	}
	for _, at := range []int{132, 136, 140, 148} {
		le.PutUint32(b[at:], extra)
	}
}

// The range of times: 32 bits with a sign and two more bits of an epoch that only adds.
const (
	earliest = math.MinInt32
	latest   = math.MaxInt32 + 3<<32
)

// encodeTime returns the seconds, and what is in the extra field: nanoseconds and two more
// bits of the seconds. Times out of range become the nearest one.
func encodeTime(t time.Time) (low, extra uint32) {
	seconds := t.Unix()
	switch {
	case seconds < earliest:
		return 1 << 31, 0
	case seconds > latest:
		return math.MaxInt32, 3
	}
	epoch := (seconds - int64(int32(seconds))) >> 32
	return uint32(seconds), uint32(epoch)&3 | uint32(t.Nanosecond())<<2
}

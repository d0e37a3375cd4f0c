package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// Medium is a device or an image that is read and written at places.
type Medium interface {
	io.ReaderAt
	io.WriterAt
}

// The journal of ext4 (Linux: include/linux/jbd2.h, Documentation/filesystems/ext4/journal.rst); its
// numbers are in network order.
const (
	journalMagic  = 0xc03b3998
	journalCommit = 2
	journalSums   = 0x8 | 0x10 // features that have a checksum in each commit block
	commitSumAt   = 16
	commitSize    = 60 // bytes of a commit block that mean something; the others are zeros
)

var errNoJournal = errors.New("the file system has no journal that can be read")

// MendJournal makes commit blocks of an ext4's journal whole that a power cut has torn: a block has
// several sectors, its checksum is over all of them, and Linux before 6.10 mounts no file system with a
// wrong one. All that a commit block says is in its first sector, and the rest is zeros; if its checksum
// is right with these, the transaction was complete before, and the zeros are written. It reports whether
// it wrote.
func MendJournal(m Medium) (mended bool, err error) {
	j, err := openJournal(m)
	if err != nil || !j.sums {
		return false, err
	}
	b := make([]byte, j.block)
	for _, x := range j.extents {
		for n := range x.blocks {
			at := int64((x.start + n) * j.block)
			if _, err := m.ReadAt(b, at); err != nil {
				return mended, err
			}
			be := binary.BigEndian
			if be.Uint32(b) != journalMagic || be.Uint32(b[4:]) != journalCommit || j.whole(b) {
				continue
			}
			clear(b[commitSize:])
			if !j.whole(b) {
				continue
			}
			if _, err := m.WriteAt(b, at); err != nil {
				return mended, err
			}
			mended = true
		}
	}
	return mended, nil
}

// extent is a part of a file, in blocks of the file system.
type extent struct{ start, blocks uint64 }

// journal is the file with the journal.
type journal struct {
	block   uint64 // size, in bytes
	extents []extent
	sums    bool
	seed    uint32
}

func openJournal(m Medium) (*journal, error) {
	super := make([]byte, superSize)
	if _, err := m.ReadAt(super, superAt); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if le.Uint16(super[0x38:]) != 0xEF53 || le.Uint32(super[0x18:]) > 6 || le.Uint32(super[0x28:]) == 0 {
		return nil, errNoJournal
	}
	j := &journal{block: 1024 << le.Uint32(super[0x18:])}
	inode, err := j.inode(m, super)
	if err != nil {
		return nil, err
	}
	const maxDepth = 5
	nodes := maxNodes
	if err := j.walk(m, inode[0x28:0x64], maxDepth, &nodes); err != nil {
		return nil, err
	}
	if len(j.extents) == 0 {
		return nil, errNoJournal
	}
	head := make([]byte, superSize)
	if _, err := m.ReadAt(head, int64(j.extents[0].start*j.block)); err != nil {
		return nil, err
	}
	if binary.BigEndian.Uint32(head) != journalMagic {
		return nil, errNoJournal
	}
	j.sums = binary.BigEndian.Uint32(head[0x28:])&journalSums != 0
	j.seed = castagnoli(^uint32(0), head[0x30:0x40]) // its UUID
	return j, nil
}

// inode reads the journal's, which is in the first block group.
func (j *journal) inode(m Medium, super []byte) ([]byte, error) {
	le := binary.LittleEndian
	number, size := le.Uint32(super[0xE0:]), uint64(le.Uint16(super[0x58:]))
	if number == 0 || number > le.Uint32(super[0x28:]) {
		return nil, errNoJournal
	}
	desc := make([]byte, 64)
	if _, err := m.ReadAt(desc, int64((uint64(le.Uint32(super[0x14:]))+1)*j.block)); err != nil {
		return nil, err
	}
	table := uint64(le.Uint32(desc[8:]))
	if le.Uint16(super[0xFE:]) >= 64 && le.Uint32(super[0x60:])&0x80 != 0 { // 64bit
		table |= uint64(le.Uint32(desc[0x28:])) << 32
	}
	inode := make([]byte, 128)
	if _, err := m.ReadAt(inode, int64(table*j.block+uint64(number-1)*size)); err != nil {
		return nil, err
	}
	if le.Uint32(inode[0x20:])&0x80000 == 0 {
		return nil, fmt.Errorf("%w: it is not made of extents", errNoJournal)
	}
	return inode, nil
}

// maxNodes bounds the tree of the journal's extents, whose nodes may name each other on a damaged disk.
const maxNodes = 1 << 10

// unwritten is added to the length of an extent that has no content yet.
const unwritten = 0x8000

// walk adds the extents below a node of a tree, of which nodes may follow.
func (j *journal) walk(m Medium, node []byte, depth int, nodes *int) error {
	le := binary.LittleEndian
	n := int(le.Uint16(node[2:]))
	if *nodes--; le.Uint16(node) != 0xF30A || depth < 0 || *nodes < 0 || 12*(n+1) > len(node) {
		return errNoJournal
	}
	for i := range n {
		e := node[12*(i+1):]
		if le.Uint16(node[6:]) == 0 {
			if length := le.Uint16(e[4:]); length <= unwritten {
				j.extents = append(j.extents, extent{uint64(le.Uint16(e[6:]))<<32 | uint64(le.Uint32(e[8:])), uint64(length)})
			}
			continue
		}
		child := make([]byte, j.block)
		if _, err := m.ReadAt(child, int64((uint64(le.Uint16(e[8:]))<<32|uint64(le.Uint32(e[4:])))*j.block)); err != nil {
			return err
		}
		if err := j.walk(m, child, depth-1, nodes); err != nil {
			return err
		}
	}
	return nil
}

// whole reports whether a commit block has its checksum.
func (j *journal) whole(b []byte) bool {
	sum := castagnoli(castagnoli(castagnoli(j.seed, b[:commitSumAt]), make([]byte, 4)), b[commitSumAt+4:])
	return sum == binary.BigEndian.Uint32(b[commitSumAt:])
}

// castagnoli continues a CRC-32C as the kernel does: not inverted.
func castagnoli(seed uint32, b []byte) uint32 {
	return ^crc32.Update(^seed, crc32.MakeTable(crc32.Castagnoli), b)
}

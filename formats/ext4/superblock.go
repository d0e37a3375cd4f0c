package ext4

import "time"

// superblockAt is where the first superblock is in bytes, whatever the size of blocks.
const superblockAt = 1024

// Features, by what a system that does not know them must not do: nothing, mount, write.
const (
	hasJournal    = 0x4
	extAttr       = 0x8
	resizeInodes  = 0x10
	dirIndex      = 0x20
	fileTypes     = 0x2
	extentTrees   = 0x40
	flexGroups    = 0x200
	largeFile     = 0x2
	hugeFile      = 0x8
	dirNlink      = 0x20
	extraIsize    = 0x40
	metadataCsum  = 0x400
	crc32c        = 1
	mountXattrACL = 0xC
	hashUnsigned  = 0x2
)

// superblock returns the superblock for its copy in a group.
func (w *writer) superblock(group int64) []byte {
	b := make([]byte, 1024)
	free := w.blocks - w.first - w.overhead - w.free.used
	compatible := uint32(extAttr | resizeInodes | dirIndex)
	if w.journal != nil {
		compatible |= hasJournal
		w.putJournalBackup(b)
	}
	scale := uint32(0)
	for 1024<<scale < w.block {
		scale++
	}
	for at, v := range map[int]uint32{
		0: uint32(w.inodeCount()), 16: uint32(w.inodeCount() - w.lastInode()),
		20: uint32(w.first), 24: scale, 28: scale,
		32: uint32(w.perGroup), 36: uint32(w.perGroup), 40: uint32(w.inodes),
		76: 1, 84: firstInode - 1,
		92: compatible, 96: fileTypes | extentTrees | wide | flexGroups,
		100: sparseSuper | largeFile | hugeFile | dirNlink | extraIsize | metadataCsum,
		256: mountXattrACL, 352: hashUnsigned,
	} {
		le.PutUint32(b[at:], v)
	}
	put64(b, 4, 336, w.blocks)
	put64(b, 8, 340, w.blocks*int64(w.opts.Reserved)/100)
	put64(b, 12, 344, free)
	for at, v := range map[int]uint16{
		54: 0xffff,               // mounts until a check: no limit
		56: 0xEF53, 58: 1, 60: 1, // clean; go on after errors
		88: inodeSize, 90: uint16(group), 206: uint16(w.growth),
		254: descriptorSize, 348: extraSize, 350: extraSize,
	} {
		le.PutUint16(b[at:], v)
	}
	b[252], b[372], b[373] = halfMD4, 4, crc32c // 1<<4 is groupsFlex
	copy(b[104:], w.opts.UUID[:])
	copy(b[120:120+maxLabel], w.opts.Label)
	copy(b[236:], w.opts.HashSeed[:])
	putSuperTimes(b, w.opts.Time)
	le.PutUint32(b[1020:], checksum(crcStart, b[:1020]))
	return b
}

// putJournalBackup writes a copy of the map and the size of the journal.
func (w *writer) putJournalBackup(b []byte) {
	le.PutUint32(b[224:], journalInode)
	b[253] = 1 // the kind of the copy
	copy(b[268:], w.journal)
	put64(b, 332, 328, w.opts.Journal/w.block*w.block)
}

// putSuperTimes writes the times when it was made, written and checked.
func putSuperTimes(b []byte, t time.Time) {
	seconds := max(t.Unix(), 0)
	for _, at := range []struct{ low, high int }{{48, 628}, {264, 630}, {64, 631}} {
		le.PutUint32(b[at.low:], uint32(seconds))
		b[at.high] = byte(seconds >> 32)
	}
}

package ext4

import (
	"encoding/binary"

	"github.com/pantavisor/pantavisor/formats/tree"
)

// Fields of the superblock of a journal (Linux: include/linux/jbd2.h).
const (
	journalMagic    = 0xC03B3998
	journalVersion2 = 4
	journal64Bit    = 0x2
	journalCRC      = 0x10 // checksums of version 3
	journalCRC32C   = 4
)

// putJournal writes an empty journal. All of it but the first block are zeros.
func (w *writer) putJournal() error {
	blocks := w.opts.Journal / w.block
	if blocks == 0 {
		return nil
	}
	x := &extents{w: w, sum: w.seedOf(journalInode)}
	var place int64
	for at := int64(0); at < blocks; {
		r, err := w.free.next(blocks - at)
		if err != nil {
			return err
		}
		if at == 0 {
			place = r.start
		}
		if err := x.add(at, r); err != nil {
			return err
		}
		at += r.end - r.start
	}
	body, err := x.root()
	if err != nil {
		return err
	}
	w.journal = body
	w.out.write(place*w.block, w.journalSuperblock(blocks))
	w.put(&inode{
		Entry: &tree.Entry{ModTime: w.opts.Time}, number: journalInode, links: 1, mode: 0o100600, flags: extentsFlag,
		size: blocks * w.block, blocks: x.blocks, body: body,
	})
	return nil
}

func (w *writer) journalSuperblock(blocks int64) []byte {
	b := make([]byte, w.block)
	be := binary.BigEndian
	for at, v := range map[int]uint32{
		0: journalMagic, 4: journalVersion2,
		12: uint32(w.block), 16: uint32(blocks), 20: 1, // the first block of the log
		24: 1, // the number of its first transaction
		40: journal64Bit | journalCRC,
		64: 1, // file systems that use it
		80: journalCRC32C << 24,
	} {
		be.PutUint32(b[at:], v)
	}
	copy(b[48:], w.opts.UUID[:])
	be.PutUint32(b[252:], checksum(crcStart, b[:1024]))
	return b
}

package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// ErrNoTable means that a disk has no partition table that can be grown.
var ErrNoTable = errors.New("no GUID or MBR partition table")

// A disk is a block device or an image.
type disk interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

// header is a GPT header (UEFI specification, section 5.3.2).
type header struct {
	raw       []byte // HeaderSize bytes
	my, other uint64 // blocks of this header and of the other copy
	first     uint64 // first usable block
	last      uint64 // last usable block
	table     uint64 // first block of the entry array
	count     uint32
	entrySize uint32
}

const (
	gptSignature = "EFI PART"
	gptHeader    = 92      // bytes of a revision 1.0 header
	maxTable     = 1 << 20 // largest plausible entry array in bytes
)

// gpt is the GUID partition table of one disk.
type gpt struct {
	d      disk
	sector uint64 // bytes of a logical block
	blocks uint64 // size of the disk
	head   header
	array  []byte
}

// readGPT reads the primary table of a disk; size and sector are in bytes. For a missing
// or damaged table the error is ErrNoTable.
func readGPT(d disk, size, sector uint64) (*gpt, error) {
	g := &gpt{d: d, sector: sector, blocks: size / sector}
	var err error
	if g.head, g.array, err = g.read(1); err != nil {
		return nil, err
	}
	return g, nil
}

// read returns the header at a block and its entry array, after checking both.
func (g *gpt) read(block uint64) (header, []byte, error) {
	b := make([]byte, g.sector)
	if _, err := g.d.ReadAt(b, int64(block*g.sector)); err != nil {
		return header{}, nil, fmt.Errorf("reading the partition table header: %w", err)
	}
	h, err := parseHeader(b, block, g.blocks)
	if err != nil {
		return header{}, nil, err
	}
	array := make([]byte, uint64(h.count)*uint64(h.entrySize))
	if _, err := g.d.ReadAt(array, int64(h.table*g.sector)); err != nil {
		return header{}, nil, fmt.Errorf("reading the partition entries: %w", err)
	}
	if crc32.ChecksumIEEE(array) != binary.LittleEndian.Uint32(h.raw[88:]) {
		return header{}, nil, fmt.Errorf("checking the partition entries: %w: wrong checksum", ErrNoTable)
	}
	return h, array, nil
}

func parseHeader(b []byte, block, blocks uint64) (header, error) {
	le := binary.LittleEndian
	size := le.Uint32(b[12:])
	if string(b[:8]) != gptSignature || size < gptHeader || uint64(size) > uint64(len(b)) {
		return header{}, ErrNoTable
	}
	raw := bytes.Clone(b[:size])
	h := header{raw: raw, my: le.Uint64(raw[24:]), other: le.Uint64(raw[32:]), first: le.Uint64(raw[40:]),
		last: le.Uint64(raw[48:]), table: le.Uint64(raw[72:]), count: le.Uint32(raw[80:]), entrySize: le.Uint32(raw[84:])}
	sum := le.Uint32(raw[16:])
	le.PutUint32(raw[16:], 0)
	bytesOfTable := uint64(h.count) * uint64(h.entrySize)
	switch {
	case crc32.ChecksumIEEE(raw) != sum:
		return header{}, fmt.Errorf("checking the partition table header: %w: wrong checksum", ErrNoTable)
	case h.my != block, h.entrySize < 128, h.entrySize&(h.entrySize-1) != 0, bytesOfTable == 0 || bytesOfTable > maxTable:
		return header{}, fmt.Errorf("checking the partition table header: %w: values out of range", ErrNoTable)
	case h.last >= blocks || h.first > h.last || h.table >= blocks:
		return header{}, fmt.Errorf("checking the partition table header: %w: it describes a larger disk", ErrNoTable)
	}
	return h, nil
}

// bytes returns the block that holds the header for this entry array.
func (h header) bytes(array []byte, sector uint64) []byte {
	le := binary.LittleEndian
	b := make([]byte, sector)
	copy(b, h.raw)
	le.PutUint64(b[24:], h.my)
	le.PutUint64(b[32:], h.other)
	le.PutUint64(b[40:], h.first)
	le.PutUint64(b[48:], h.last)
	le.PutUint64(b[72:], h.table)
	le.PutUint32(b[88:], crc32.ChecksumIEEE(array))
	le.PutUint32(b[16:], 0)
	le.PutUint32(b[16:], crc32.ChecksumIEEE(b[:len(h.raw)]))
	return b
}

// entry returns the used entry of partition number n, from 1.
func (g *gpt) entry(n int) ([]byte, bool) {
	size := int(g.head.entrySize)
	if n < 1 || n > int(g.head.count) {
		return nil, false
	}
	e := g.array[(n-1)*size : n*size]
	return e, !bytes.Equal(e[:16], make([]byte, 16))
}

// partition returns the first and last block of a partition.
func (g *gpt) partition(n int) (first, last uint64, ok bool) {
	e, ok := g.entry(n)
	if !ok {
		return 0, 0, false
	}
	return binary.LittleEndian.Uint64(e[32:]), binary.LittleEndian.Uint64(e[40:]), true
}

// tableBlocks returns how many blocks an entry array takes.
func (g *gpt) tableBlocks() uint64 {
	return (uint64(len(g.array)) + g.sector - 1) / g.sector
}

// bounds returns where the first partition starts and the last one ends.
func (g *gpt) bounds() (first, last uint64) {
	first = g.blocks
	for n := 1; n <= int(g.head.count); n++ {
		if a, b, ok := g.partition(n); ok {
			first, last = min(first, a), max(last, b)
		}
	}
	return first, last
}

// grow moves the end of partition n to the end of the disk and returns its new last
// block; grown is false when it already ends there or is not the last partition. The
// start, type, unique GUID, name and flags of all partitions are kept.
//
// A power cut between any two writes leaves a valid primary table: first the backup is
// written to the new end of the disk; then a second copy of the new entries is written
// to the gap before the first partition, and a write of one block points the header to
// it; then the entries in the usual place are rewritten, and the header is pointed
// back. Without such a gap only the backup protects the last step.
func (g *gpt) grow(n int) (last uint64, grown bool, err error) {
	size := g.tableBlocks()
	if g.blocks < 2*size+4 {
		return 0, false, fmt.Errorf("growing the partition: %w: disk too small", ErrNoTable)
	}
	newLast := g.alignedEnd(g.blocks - size - 2)
	_, oldLast, ok := g.partition(n)
	if _, end := g.bounds(); !ok || end != oldLast {
		return oldLast, false, nil
	}
	if newLast <= oldLast {
		return oldLast, false, g.settle()
	}
	e, _ := g.entry(n)
	binary.LittleEndian.PutUint64(e[40:], newLast)
	g.head.last, g.head.other = g.blocks-size-2, g.blocks-1
	for _, step := range []func() error{g.writeBackup, g.detour, g.writePrimary, g.protect} {
		if err := step(); err != nil {
			return 0, false, err
		}
	}
	return newLast, true, nil
}

// alignedEnd returns the last block before or at last that ends a whole MiB.
func (g *gpt) alignedEnd(last uint64) uint64 {
	unit := (1 << 20) / g.sector
	return (last+1)/unit*unit - 1
}

// settle completes a growth that a power cut interrupted after the detour: the backup
// has the usual place of the primary entries.
func (g *gpt) settle() error {
	const home = 2
	if g.head.table != home+g.tableBlocks() {
		return nil
	}
	backup, array, err := g.read(g.head.other)
	if err != nil || !bytes.Equal(array, g.array) {
		return nil // another tool's layout
	}
	g.head.table, g.head.first = home, backup.first
	if err := g.writePrimary(); err != nil {
		return err
	}
	return g.protect()
}

func (g *gpt) writeBackup() error {
	h := g.head
	h.my, h.other, h.table = g.head.other, g.head.my, g.blocks-1-g.tableBlocks()
	return g.put(h, "backup")
}

// detour points the primary header at a copy of the entries outside their usual place.
func (g *gpt) detour() error {
	if g.head.table != 2 {
		return nil // already elsewhere; the backup protects the next step
	}
	first, _ := g.bounds()
	spare := g.head.table + g.tableBlocks()
	if first < spare+g.tableBlocks() {
		return nil
	}
	h := g.head
	h.table, h.first = spare, max(h.first, spare+g.tableBlocks())
	return g.put(h, "interim")
}

func (g *gpt) writePrimary() error { return g.put(g.head, "primary") }

// put writes the entries, then the header that makes them valid.
func (g *gpt) put(h header, what string) error {
	if err := g.write(g.array, h.table); err != nil {
		return fmt.Errorf("writing the %s partition entries: %w", what, err)
	}
	if err := g.write(h.bytes(g.array, g.sector), h.my); err != nil {
		return fmt.Errorf("writing the %s partition table header: %w", what, err)
	}
	return nil
}

func (g *gpt) write(b []byte, block uint64) error {
	if _, err := g.d.WriteAt(b, int64(block*g.sector)); err != nil {
		return err
	}
	return g.d.Sync()
}

// protect makes the protective MBR cover the disk (UEFI specification, 5.2.3).
func (g *gpt) protect() error {
	b := make([]byte, 512)
	if _, err := g.d.ReadAt(b, 0); err != nil {
		return fmt.Errorf("reading the protective MBR: %w", err)
	}
	e := b[446:462]
	if b[510] != 0x55 || b[511] != 0xAA || e[4] != 0xEE {
		return nil // a hybrid MBR is left as it is
	}
	binary.LittleEndian.PutUint32(e[12:], uint32(min(g.blocks-1, 0xFFFFFFFF)))
	if err := g.write(b, 0); err != nil {
		return fmt.Errorf("writing the protective MBR: %w", err)
	}
	return nil
}

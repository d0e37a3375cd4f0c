package storage

import (
	"encoding/binary"
	"fmt"
)

const mbrLast = 0xFFFFFFFF // largest block number of a 32-bit table

// growMBR moves the end of primary partition n to the end of the disk. It writes one
// block, which has the old or the new content after a power cut.
func growMBR(d disk, n int, blocks uint64) (last uint64, grown bool, err error) {
	b := make([]byte, 512)
	if _, err := d.ReadAt(b, 0); err != nil {
		return 0, false, fmt.Errorf("reading the MBR: %w", err)
	}
	if b[510] != 0x55 || b[511] != 0xAA || b[450] == 0xEE {
		return 0, false, ErrNoTable
	}
	if n < 1 || n > 4 {
		return 0, false, nil // logical partitions are not grown
	}
	start, end := mbrEntry(b, n)
	for other := 1; other <= 4; other++ {
		if _, e := mbrEntry(b, other); other != n && e > end {
			return end, false, nil
		}
	}
	newEnd := min(blocks, mbrLast) - 1
	if start == 0 || newEnd <= end {
		return end, false, nil
	}
	binary.LittleEndian.PutUint32(b[446+16*(n-1)+12:], uint32(newEnd-start+1))
	if _, err := d.WriteAt(b, 0); err != nil {
		return 0, false, fmt.Errorf("writing the MBR: %w", err)
	}
	if err := d.Sync(); err != nil {
		return 0, false, fmt.Errorf("syncing the MBR: %w", err)
	}
	return newEnd, true, nil
}

// mbrEntry returns the first and last block of a primary partition, 0 and 0 for an empty entry.
func mbrEntry(b []byte, n int) (start, end uint64) {
	e := b[446+16*(n-1) : 446+16*n]
	size := uint64(binary.LittleEndian.Uint32(e[12:]))
	if e[4] == 0 || size == 0 {
		return 0, 0
	}
	start = uint64(binary.LittleEndian.Uint32(e[8:]))
	return start, start + size - 1
}

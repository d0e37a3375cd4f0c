package storage

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// The superblock of ext4 (Linux: Documentation/filesystems/ext4/super.rst).
const (
	superAt       = 1024 // bytes from the beginning of the device
	superSize     = 1024
	superSector   = 512 // the checksum is in the second sector
	checksumAt    = 0x3FC
	roMetadataSum = 0x400
)

// staticFields are the parts of a superblock that a file system keeps from its making on, from
// and to which byte.
var staticFields = [][2]int{
	{0x14, 0x2C},   // first block, sizes of blocks and groups
	{0x38, 0x3A},   // magic
	{0x48, 0x50},   // creator, revision
	{0x54, 0x5A},   // first inode, size of inodes
	{0x68, 0x78},   // UUID
	{0xE0, 0xE4},   // the journal's inode
	{0xEC, 0x100},  // seed of hashes, size of descriptors
	{0x174, 0x176}, // flexible groups, kind of checksum
}

// Features that the kernel turns on and off while it uses a file system.
const (
	incompatRecover = 0x4     // the journal has to be replayed
	roLargeFile     = 0x2     // a file has 2 GiB or more
	roOrphanPresent = 0x10000 // the orphan file has entries
)

// mendSuper writes the checksum of a superblock anew that a power cut has torn: of its two
// sectors one is older than the other, and the kernel mounts no file system whose checksum is
// wrong. All that the kernel changes while it uses the file system is in the first sector, the
// second one has the checksum: with the right one the superblock is that of before or after the
// write. The copy in the second block group has to agree in all that does not change. It
// reports whether it wrote.
func mendSuper(f Medium) (mended bool, err error) {
	super := make([]byte, superSize)
	if _, err := f.ReadAt(super, superAt); err != nil {
		return false, err
	}
	le := binary.LittleEndian
	if _, ok := probeExt(append(make([]byte, superAt), super...)); !ok || le.Uint32(super[0x64:])&roMetadataSum == 0 || intact(super) {
		return false, nil
	}
	if err := agrees(f, super); err != nil {
		return false, err
	}
	le.PutUint32(super[checksumAt:], superChecksum(super))
	_, err = f.WriteAt(super[superSector:], superAt+superSector)
	return err == nil, err
}

// agrees compares a superblock with its copy in the second block group.
func agrees(f Medium, super []byte) error {
	le := binary.LittleEndian
	first, group, block := uint64(le.Uint32(super[0x14:])), uint64(le.Uint32(super[0x20:])), uint64(1024)<<le.Uint32(super[0x18:])
	at := (first + group) * block
	other := make([]byte, superSize)
	if _, err := f.ReadAt(other, int64(at)); err != nil {
		return fmt.Errorf("reading the copy of the superblock at byte %d: %w", at, err)
	}
	if !intact(other) || !bytes.Equal(static(super), static(other)) {
		return fmt.Errorf("the superblock and its copy at byte %d do not agree", at)
	}
	return nil
}

// static returns what of a superblock does not change.
func static(super []byte) []byte {
	var out []byte
	for _, f := range staticFields {
		out = append(out, super[f[0]:f[1]]...)
	}
	le := binary.LittleEndian
	out = append(out, super[0x5C:0x60]...)
	out = le.AppendUint32(out, le.Uint32(super[0x60:])&^incompatRecover)
	return le.AppendUint32(out, le.Uint32(super[0x64:])&^(roLargeFile|roOrphanPresent))
}

// intact reports whether a superblock has its checksum.
func intact(super []byte) bool {
	return binary.LittleEndian.Uint32(super[checksumAt:]) == superChecksum(super)
}

// superChecksum is the CRC-32C of a superblock without its last field, not inverted.
func superChecksum(super []byte) uint32 {
	return castagnoli(^uint32(0), super[:checksumAt])
}

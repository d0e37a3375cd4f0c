package ext4

import "hash/crc32"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum continues a CRC-32C as ext4 has it, without the inversions before and behind.
func checksum(sum uint32, data []byte) uint32 { return ^crc32.Update(^sum, castagnoli, data) }

// checksumOf continues a checksum with a number of 32 bits.
func checksumOf(sum, number uint32) uint32 { return checksum(sum, le.AppendUint32(nil, number)) }

// crcStart is the value before the first byte.
const crcStart = ^uint32(0)

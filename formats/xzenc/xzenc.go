// Package xzenc compresses blocks in memory into xz streams (The .xz File Format, version
// 1.1.0; LZMA2) for the kernel's decoder: one block, CRC32, a dictionary of the caller's
// choice. It is designed for many blocks of equal size: an [Encoder] reuses its tables.
// It searches for matches as xz does in its fast presets.
package xzenc

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/bits"
)

// The limits of a dictionary, and thus of a block, in bytes.
const (
	MinDictionary = 4 << 10
	MaxDictionary = 1 << 20
)

// Encoder compresses one block at a time. Use it from one goroutine.
type Encoder struct {
	property byte
	size     int
	lzma     encoder
}

// New returns an encoder for blocks of up to size bytes, a power of two. Decoders need a
// dictionary of that size.
func New(size int) (*Encoder, error) {
	if size < MinDictionary || size > MaxDictionary || size&(size-1) != 0 {
		return nil, fmt.Errorf("dictionary of %d bytes: a power of two from %d to %d is expected", size, MinDictionary, MaxDictionary)
	}
	e := &Encoder{property: byte(2 * (bits.TrailingZeros(uint(size)) - 12)), size: size}
	return e, nil
}

var (
	magic  = []byte{0xfd, '7', 'z', 'X', 'Z', 0}
	flags  = []byte{0, 1} // CRC32
	footer = []byte{'Y', 'Z'}
)

const checkSize = 4

// Append appends the xz stream of a block to dst.
func (e *Encoder) Append(dst, block []byte) ([]byte, error) {
	if len(block) > e.size {
		return dst, fmt.Errorf("compressing %d bytes: the encoder is made for %d", len(block), e.size)
	}
	dst = sealed(append(dst, magic...), flags)
	start := len(dst)
	// One filter, LZMA2 with one byte of properties; no sizes.
	dst = sealed(dst, []byte{2, 0, 0x21, 1, e.property, 0, 0, 0})
	dst = append(e.lzma.append(dst, block), 0)
	unpadded := len(dst) - start + checkSize
	dst = pad(dst, start)
	dst = binary.LittleEndian.AppendUint32(dst, crc32.ChecksumIEEE(block))
	index := binary.AppendUvarint([]byte{0, 1}, uint64(unpadded))
	index = pad(binary.AppendUvarint(index, uint64(len(block))), 0)
	dst = sealed(dst, index)
	tail := append(binary.LittleEndian.AppendUint32(nil, uint32(len(index)/4)), flags...)
	dst = binary.LittleEndian.AppendUint32(dst, crc32.ChecksumIEEE(tail))
	return append(append(dst, tail...), footer...), nil
}

// sealed appends bytes and their checksum.
func sealed(dst, b []byte) []byte {
	return binary.LittleEndian.AppendUint32(append(dst, b...), crc32.ChecksumIEEE(b))
}

// pad fills up to four bytes, counted from start.
func pad(b []byte, start int) []byte {
	for (len(b)-start)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

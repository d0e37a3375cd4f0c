// Package xzenc compresses into xz streams (The .xz File Format, version 1.1.0; LZMA2),
// also for the kernel's decoder.
//
// An [Encoder] is for many blocks in memory of equal size, as those of squashfs are: each
// becomes a stream with one block and CRC32, and the tables are used again. It searches
// for matches as xz does in its fast presets.
//
// A [Writer] compresses data of any length, in blocks that do not depend on each other, on
// all cores. Memory is bounded by the size of a block: positions never wrap. With [Strong]
// it takes the symbols that are cheapest together, as xz's default presets do.
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
	size int
	lzma chunks
}

// New returns an encoder for blocks of up to size bytes, a power of two. Decoders need a
// dictionary of that size.
func New(size int) (*Encoder, error) {
	if size < MinDictionary || size > MaxDictionary || size&(size-1) != 0 {
		return nil, fmt.Errorf("dictionary of %d bytes: a power of two from %d to %d is expected", size, MinDictionary, MaxDictionary)
	}
	return &Encoder{size: size, lzma: chunks{packer: newEncoder()}}, nil
}

const checkSize = 4

// Append appends the xz stream of a block to dst.
func (e *Encoder) Append(dst, block []byte) ([]byte, error) {
	if len(block) > e.size {
		return dst, fmt.Errorf("compressing %d bytes: the encoder is made for %d", len(block), e.size)
	}
	dst = streamHead(dst, CRC32)
	start := len(dst)
	// One filter, LZMA2 with one byte of properties; no sizes.
	dst = sealed(dst, []byte{2, 0, filterLZMA2, 1, dictionaryProperty(e.size), 0, 0, 0})
	for e.lzma.begin(block); e.lzma.more(); {
		dst = e.lzma.next(dst)
	}
	dst = append(dst, 0)
	unpadded := len(dst) - start + checkSize
	dst = CRC32.sum(pad(dst, start), block)
	index := binary.AppendUvarint([]byte{0, 1}, uint64(unpadded))
	index = pad(binary.AppendUvarint(index, uint64(len(block))), 0)
	return streamTail(sealed(dst, index), CRC32, len(index)), nil
}

// dictionaryProperty is the byte that tells the decoder a size of the dictionary, a power
// of two.
func dictionaryProperty(size int) byte { return byte(2 * (bits.TrailingZeros(uint(size)) - 12)) }

// streamHead appends the header of a stream.
func streamHead(dst []byte, c Check) []byte {
	return sealed(append(dst, 0xfd, '7', 'z', 'X', 'Z', 0), []byte{0, byte(c)})
}

// streamTail appends the footer of a stream, behind an index of size bytes without its
// checksum.
func streamTail(dst []byte, c Check, size int) []byte {
	tail := append(binary.LittleEndian.AppendUint32(nil, uint32(size/4)), 0, byte(c))
	dst = binary.LittleEndian.AppendUint32(dst, crc32.ChecksumIEEE(tail))
	return append(append(dst, tail...), 'Y', 'Z')
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

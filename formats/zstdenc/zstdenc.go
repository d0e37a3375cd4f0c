// Package zstdenc compresses blocks that are whole in memory into zstd frames
// (RFC 8878) as the kernel's squashfs takes them: a single segment with its size
// and without a checksum. It is made for many blocks of equal size: an [Encoder]
// keeps its tables from block to block; the strongest search takes up to 50 MB.
package zstdenc

import (
	"encoding/binary"
	"fmt"

	"github.com/klauspost/compress/huff0"

	"github.com/pantavisor/pantavisor/formats/zstdcode"
)

// maxSize is the largest block in bytes.
const maxSize = 1 << 20

// Levels of effort, as zstd numbers them.
const (
	MinLevel = 1
	MaxLevel = 22
)

// Encoder compresses one block at a time. Use it from one goroutine.
type Encoder struct {
	size   int
	search func(from, to int) // fills sequences and literals with one zstd block

	src   []byte
	seqs  []sequence
	lits  []byte
	reps  distances
	fast  []uint32
	chain chains
	opt   *optimizer

	huff                huff0.Scratch
	litLens, offs, lens coder
}

// distances are the last three distances of matches, the latest first.
type distances [3]uint32

// sequence is a run of literals and the match behind it.
type sequence struct {
	lits   uint32
	length uint32 // of the match
	off    uint32 // 1 is the last distance (the one before it when lits is 0), distance+3 a new one
}

// minMatch is the shortest match that is looked for.
const minMatch = 4

// New returns an encoder for blocks of up to size bytes.
func New(size, level int) (*Encoder, error) {
	if size < 1 || size > maxSize {
		return nil, fmt.Errorf("blocks of %d bytes: want 1 to %d", size, maxSize)
	}
	if level < MinLevel || level > MaxLevel {
		return nil, fmt.Errorf("level %d: want %d to %d", level, MinLevel, MaxLevel)
	}
	e := &Encoder{size: size, litLens: litLenCoder(), offs: offsetCoder(), lens: lengthCoder()}
	e.huff.Reuse = huff0.ReusePolicyNone
	e.fast = make([]uint32, 1<<fastBits)
	e.search = e.greedy
	switch {
	case level >= optimalLevel:
		e.opt = newOptimizer()
		e.chain = newChains(size, triesOf(level))
		e.search = e.optimal
	case level >= lazyLevel:
		e.chain = newChains(size, triesOf(level))
		e.search = e.lazy
	}
	return e, nil
}

const (
	lazyLevel    = 3  // the first with a lazy search
	optimalLevel = 13 // the first with a search for the cheapest sequences
)

// triesOf returns how many earlier places the lazy and the optimal search compare
// for one position.
func triesOf(level int) int {
	switch {
	case level <= 5:
		return 2
	case level <= 7:
		return 8
	case level <= 9:
		return 16
	case level < optimalLevel:
		return 64
	case level <= 15:
		return 32
	}
	return 256
}

// Append appends the frame of a block to dst.
func (e *Encoder) Append(dst, block []byte) ([]byte, error) {
	if len(block) > e.size {
		return dst, fmt.Errorf("compressing %d bytes: the encoder is made for %d", len(block), e.size)
	}
	dst = appendHeader(dst, len(block))
	e.src, e.reps = block, distances{1, 4, 8}
	clear(e.fast)
	e.chain.reset()
	if e.opt != nil {
		clear(e.opt.short)
	}
	if len(block) == 0 {
		return appendBlockHeader(dst, zstdcode.BlockRaw, 0, true), nil
	}
	for from := 0; from < len(block); from += zstdcode.MaxBlock {
		to := min(from+zstdcode.MaxBlock, len(block))
		dst = e.block(dst, from, to)
	}
	return dst, nil
}

func appendHeader(dst []byte, size int) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, zstdcode.FrameMagic)
	switch {
	case size < 256:
		return append(dst, zstdcode.SingleSegment, byte(size))
	case size < 256+1<<16:
		return binary.LittleEndian.AppendUint16(append(dst, zstdcode.SingleSegment|1<<6), uint16(size-256))
	}
	return binary.LittleEndian.AppendUint32(append(dst, zstdcode.SingleSegment|2<<6), uint32(size))
}

func appendBlockHeader(dst []byte, kind, size int, last bool) []byte {
	v := size<<3 | kind<<1
	if last {
		v |= 1
	}
	return append(dst, byte(v), byte(v>>8), byte(v>>16))
}

// block appends one zstd block, uncompressed when compression does not help.
func (e *Encoder) block(dst []byte, from, to int) []byte {
	last, head, reps := to == len(e.src), len(dst), e.reps
	e.seqs, e.lits = e.seqs[:0], e.lits[:0]
	e.search(from, to)
	dst = appendBlockHeader(dst, zstdcode.BlockCompressed, 0, last)
	dst, ok := e.appendSequences(e.appendLiterals(dst))
	size := len(dst) - head - 3
	if !ok || size >= to-from {
		e.reps = reps // a raw block leaves the decoder's distances as they were
		return append(appendBlockHeader(dst[:head], zstdcode.BlockRaw, to-from, last), e.src[from:to]...)
	}
	appendBlockHeader(dst[:head], zstdcode.BlockCompressed, size, last)
	return dst
}

// emit records a match of length bytes at pos; from is where the literals before
// it begin.
func (e *Encoder) emit(from, pos, length int, off uint32) {
	e.lits = append(e.lits, e.src[from:pos]...)
	e.seqs = append(e.seqs, sequence{uint32(pos - from), uint32(length), off})
}

const (
	minHuffman = 32   // fewer literals gain nothing
	oneStream  = 1024 // fewer literals are one stream
)

// appendLiterals appends the literals section.
func (e *Encoder) appendLiterals(dst []byte) []byte {
	n := len(e.lits)
	if n < minHuffman {
		return append(appendLiteralsHeader(dst, zstdcode.LiteralsRaw, n), e.lits...)
	}
	var packed []byte
	var err error
	if n < oneStream {
		packed, _, err = huff0.Compress1X(e.lits, &e.huff)
	} else {
		packed, _, err = huff0.Compress4X(e.lits, &e.huff)
	}
	switch {
	case err == huff0.ErrUseRLE: //nolint:errorlint // as its documentation compares it
		return append(appendLiteralsHeader(dst, zstdcode.LiteralsRLE, n), e.lits[0])
	case err != nil || len(packed)+5 >= n:
		return append(appendLiteralsHeader(dst, zstdcode.LiteralsRaw, n), e.lits...)
	}
	return append(appendPackedHeader(dst, n, len(packed)), packed...)
}

func appendLiteralsHeader(dst []byte, kind byte, n int) []byte {
	switch {
	case n < 1<<5:
		return append(dst, kind|byte(n)<<3)
	case n < 1<<12:
		return append(dst, kind|1<<2|byte(n)<<4, byte(n>>4))
	}
	return append(dst, kind|3<<2|byte(n)<<4, byte(n>>4), byte(n>>12))
}

// appendPackedHeader appends the header of n literals that Huffman coding made into
// packed bytes.
func appendPackedHeader(dst []byte, n, packed int) []byte {
	format, bits := 3, 18
	switch {
	case n < oneStream:
		format, bits = 0, 10
	case n < 1<<14:
		format, bits = 2, 14
	}
	v := uint64(zstdcode.LiteralsCompressed) | uint64(format)<<2 | uint64(n)<<4 | uint64(packed)<<(4+bits)
	for range (4 + 2*bits + 7) / 8 {
		dst = append(dst, byte(v))
		v >>= 8
	}
	return dst
}

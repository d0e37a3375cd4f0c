package zstdenc

import (
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/pantavisor/pantavisor/formats/zstdcode"
)

// The ranges of lengths that share a symbol; those of offsets are the powers of two.
var (
	litLenCodes = zstdcode.LiteralLengths()
	lengthCodes = zstdcode.MatchLengths()

	litLenSymbols = symbols(litLenCodes, 64)
	lengthSymbols = symbols(lengthCodes, 128+3)
)

// symbols lists the symbols of the values below n.
func symbols(codes []zstdcode.Range, n int) []byte {
	list := make([]byte, n)
	for s, c := range codes {
		for v := int(c.Base); v < n; v++ {
			list[v] = byte(s)
		}
	}
	return list
}

func litLenSymbol(v uint32) byte {
	if v < uint32(len(litLenSymbols)) {
		return litLenSymbols[v]
	}
	return byte(bits.Len32(v) + 18)
}

func lengthSymbol(v uint32) byte {
	if v < uint32(len(lengthSymbols)) {
		return lengthSymbols[v]
	}
	return byte(bits.Len32(v-3) + 35)
}

func offsetSymbol(v uint32) byte { return byte(bits.Len32(v) - 1) }

func newCoder(log, maxLog int, norm []int16) coder {
	c := coder{predefined: table{log: log, norm: norm}, maxLog: maxLog}
	c.predefined.build()
	return c
}

func litLenCoder() coder {
	return newCoder(zstdcode.LiteralLengthLog, zstdcode.MaxLiteralLengthLog, zstdcode.LiteralLengthCounts)
}

func lengthCoder() coder {
	return newCoder(zstdcode.MatchLengthLog, zstdcode.MaxMatchLengthLog, zstdcode.MatchLengthCounts)
}

func offsetCoder() coder {
	return newCoder(zstdcode.OffsetLog, zstdcode.MaxOffsetLog, zstdcode.OffsetCounts)
}

// minTable is the number of bytes from the last description of a table to the end of a
// block below which decoders up to version 1.3.4, that of kernels before 5.16, report an
// error.
const minTable = 4

// appendSequences appends the sequences section. It reports false when some decoders would
// reject the section.
func (e *Encoder) appendSequences(dst []byte) ([]byte, bool) {
	dst = appendCount(dst, len(e.seqs))
	if len(e.seqs) == 0 {
		return dst, true
	}
	e.count()
	head := len(dst)
	dst = append(dst, 0)
	last := head // where the last description of a table begins
	var tables [3]*table
	for i, c := range []*coder{&e.litLens, &e.offs, &e.lens} {
		from, mode := len(dst), byte(0)
		dst, tables[i], mode = c.choose(dst, len(e.seqs))
		dst[head] |= mode << (6 - 2*i)
		if mode == zstdcode.ModeFSE {
			last = from
		}
	}
	dst = e.appendBits(dst, tables[0], tables[1], tables[2])
	return dst, last == head || len(dst)-last >= minTable
}

func appendCount(dst []byte, n int) []byte {
	switch {
	case n < 128:
		return append(dst, byte(n))
	case n < 0x7f00:
		return append(dst, byte(n>>8)|0x80, byte(n))
	}
	return append(dst, 0xff, byte(n-0x7f00), byte((n-0x7f00)>>8))
}

// count fills in how often each symbol occurs.
func (e *Encoder) count() {
	clear(e.litLens.counts[:])
	clear(e.offs.counts[:])
	clear(e.lens.counts[:])
	for _, s := range e.seqs {
		e.litLens.counts[litLenSymbol(s.lits)&63]++
		e.offs.counts[offsetSymbol(s.off)&63]++
		e.lens.counts[lengthSymbol(s.length)&63]++
	}
}

// maxSequenceBytes is more than one sequence takes: 26 bits of states and 52 others.
const maxSequenceBytes = 12

// appendBits appends the bit stream, which decoders read from its end: last
// sequence first.
func (e *Encoder) appendBits(dst []byte, litLens, offs, lens *table) []byte {
	from := len(dst)
	dst = slices.Grow(dst, (len(e.seqs)+2)*maxSequenceBytes)
	out := dst[from:cap(dst)]
	last := len(e.seqs) - 1
	var w bits64
	var litLen, off, length uint32
	for i := last; i >= 0; i-- {
		s := &e.seqs[i]
		l, o, m := litLenSymbol(s.lits), offsetSymbol(s.off), lengthSymbol(s.length)
		if i == last {
			litLen, off, length = litLens.start(l), offs.start(o), lens.start(m)
		} else {
			w, off = offs.step(w, off, o)
			w, length = lens.step(w, length, m)
			w, litLen = litLens.step(w, litLen, l)
			w = w.flush(out)
		}
		lc, mc := litLenCodes[l], lengthCodes[m]
		w = w.add(s.lits-lc.Base, lc.Bits).add(s.length-mc.Base, mc.Bits).flush(out)
		w = w.add(s.off-1<<(o&31), o).flush(out)
	}
	w = w.add(length&(1<<lens.log-1), uint8(lens.log)).add(off&(1<<offs.log-1), uint8(offs.log))
	w = w.add(litLen&(1<<litLens.log-1), uint8(litLens.log)).flush(out)
	return dst[:from+w.add(1, 1).end(out)]
}

// bits64 collects bits from the lowest on; fewer than 32 are left after flush.
type bits64 struct {
	acc uint64
	n   uint8
	pos int
}

// add appends the lower n bits of v, the rest of which are zero.
func (w bits64) add(v uint32, n uint8) bits64 {
	w.acc |= uint64(v) << (w.n & 63)
	w.n += n
	return w
}

// flush stores whole groups of 32 bits.
func (w bits64) flush(out []byte) bits64 {
	if w.n >= 32 {
		binary.LittleEndian.PutUint32(out[w.pos:], uint32(w.acc))
		w.acc >>= 32
		w.n -= 32
		w.pos += 4
	}
	return w
}

// end stores the rest, filled up with zeros, and returns the number of bytes.
func (w bits64) end(out []byte) int {
	binary.LittleEndian.PutUint64(out[w.pos:], w.acc)
	return w.pos + int(w.n+7)/8
}

// step writes what the decoder needs to come back from the next state.
func (t *table) step(w bits64, state uint32, symbol byte) (bits64, uint32) {
	m := &t.moves[symbol&63]
	n := (state + m.bits) >> 16
	return w.add(state&(1<<(n&31)-1), uint8(n)), uint32(t.states[(int32(state>>(n&31))+m.find)&(1<<maxTableLog-1)])
}

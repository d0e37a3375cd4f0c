package zstddec

import (
	"encoding/binary"
	"math/bits"

	"github.com/pantavisor/pantavisor/formats/zstdcode"
)

// backward reads a stream of bits from its end, as both kinds of codes are written.
type backward struct {
	in   []byte // the stream and slack bytes
	left int    // bits; negative when more were read than there are
}

// newBackward returns a reader of the first n bytes of in, which has slack bytes more.
//
//go:noinline
func newBackward(in []byte, n int) (backward, error) {
	if n < 1 || in[n-1] == 0 {
		return backward{}, errDamaged
	}
	return backward{in: in, left: 8*n - bits.LeadingZeros8(in[n-1]) - 1}, nil
}

// peek returns the next n bits, at most 56. Behind the end there are zeros.
func (b *backward) peek(n int) uint64 {
	if at := b.left - n; at >= 0 {
		return binary.LittleEndian.Uint64(b.in[at>>3:]) >> (at & 7) & (1<<n - 1)
	}
	if b.left <= 0 {
		return 0
	}
	return binary.LittleEndian.Uint64(b.in) & (1<<b.left - 1) << (n - b.left)
}

// take returns the next n bits and goes on behind them. It is not inlined: the program is smaller
// so, and hardly slower.
//
//go:noinline
func (b *backward) take(n int) uint64 {
	v := b.peek(n)
	b.left -= n
	return v
}

// state is one of a table of codes (4.1).
type state struct {
	base   uint16 // of the next state
	symbol byte
	bits   byte // to add to base
}

// maxSymbols bounds the symbols of a table.
const maxSymbols = 256

// build makes a table of 1<<log states of counts that add up to it.
func build(log int, counts []int16) []state {
	size := 1 << log
	table := make([]state, size)
	symbols := make([]byte, size)
	zstdcode.Spread(symbols, counts)
	var next [maxSymbols]uint16
	for s, n := range counts {
		next[s] = uint16(max(n, -n))
	}
	for i, s := range symbols {
		n := next[s]
		next[s]++
		width := log + 1 - bits.Len16(n)
		table[i] = state{base: n<<width - uint16(size), symbol: s, bits: byte(width)}
	}
	return table
}

// counts reads the frequencies of a table (4.1.1) of at most 1<<most states for so many symbols.
// It returns the size of the table as a power of two and the bytes that were read. in has slack
// bytes behind the first n.
func counts(in []byte, n, most, symbols int) (list []int16, log, used int, err error) {
	list = make([]int16, symbols)
	s, at, left := 0, 0, 1
	peek := func(bits int) int {
		if at > 8*n {
			return 0
		}
		return int(binary.LittleEndian.Uint64(in[at>>3:]) >> (at & 7) & (1<<bits - 1))
	}
	log, at = peek(4)+5, 4
	if log <= most {
		left <<= log
	}
	for left > 0 && s < symbols && log <= most {
		width := bits.Len(uint(left + 1))
		v := peek(width)
		few := 1<<width - 2 - left // values that take a bit less
		if low := v & (1<<(width-1) - 1); low < few {
			v = low
			width--
		} else if v != low {
			v -= few
		}
		at += width
		list[s] = int16(v - 1)
		s++
		left -= max(v-1, 1-v)
		for more := v == 1; more; {
			zeros := peek(2)
			at += 2
			s += zeros
			more = zeros == 3
		}
	}
	used = (at + 7) / 8
	if left > 0 || used > n || s > symbols {
		return nil, 0, 0, errDamaged
	}
	return list[:s], log, used, nil
}

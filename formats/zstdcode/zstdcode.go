// Package zstdcode is what an encoder and a decoder of zstd (RFC 8878) share: numbers of the
// format, the ranges of lengths that share a code, and the frequencies of codes.
package zstdcode

// The frame (3.1.1) and its blocks (3.1.1.2).
const (
	FrameMagic    = 0xfd2fb528
	SingleSegment = 1 << 5
	MaxBlock      = 128 << 10 // bytes of a block, at most

	BlockRaw        = 0
	BlockRLE        = 1
	BlockCompressed = 2
)

// The kinds of a section of literals (3.1.1.3.1.1).
const (
	LiteralsRaw        = 0
	LiteralsRLE        = 1
	LiteralsCompressed = 2
	LiteralsTreeless   = 3
)

// The modes of the table of a stream of codes (3.1.1.3.2.1).
const (
	ModePredefined = 0
	ModeRLE        = 1
	ModeFSE        = 2
	ModeRepeat     = 3
)

// The largest tables of literal lengths, offsets and match lengths, as powers of two
// (3.1.1.3.2.1).
const (
	MaxLiteralLengthLog = 9
	MaxOffsetLog        = 8
	MaxMatchLengthLog   = 9
)

// Range is the values that share a code: Base and what Bits bits add to it.
type Range struct {
	Base uint32
	Bits uint8
}

// LiteralLengths returns the ranges of literal lengths (3.1.1.3.2.1.1).
func LiteralLengths() []Range {
	return ranges(0, 16, "\x01\x01\x01\x01\x02\x02\x03\x03\x04\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10")
}

// MatchLengths returns the ranges of match lengths (3.1.1.3.2.1.1).
func MatchLengths() []Range {
	return ranges(3, 32, "\x01\x01\x01\x01\x02\x02\x03\x03\x04\x04\x05\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10")
}

// ranges returns singles ranges of one value from first on, then one for each number of bits.
//
//go:noinline
func ranges(first, singles int, bits string) []Range {
	list := make([]Range, singles+len(bits))
	at := uint32(first)
	for i := range list {
		n := byte(0)
		if i >= singles {
			n = bits[i-singles]
		}
		list[i] = Range{at, n}
		at += 1 << n
	}
	return list
}

// The logarithms of the sizes of the predefined tables (3.1.1.3.2.2).
const (
	LiteralLengthLog = 6
	OffsetLog        = 5
	MatchLengthLog   = 6
)

// The predefined frequencies (3.1.1.3.2.2).
var (
	LiteralLengthCounts = []int16{
		4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1,
		-1, -1, -1, -1,
	}
	OffsetCounts = []int16{
		1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1,
	}
	MatchLengthCounts = []int16{
		1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
		1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
	}
)

// Spread gives each state of a table its symbol (4.1.1). The counts, of which -1 is a frequency
// below one, add up to the number of states, a power of two of at least 32.
func Spread(states []byte, counts []int16) {
	size := len(states)
	high := size - 1
	for s, n := range counts {
		if n == -1 {
			states[high] = byte(s)
			high--
		}
	}
	at, step, mask := 0, size>>1+size>>3+3, size-1
	for s, n := range counts {
		for range max(n, 0) {
			states[at] = byte(s)
			at = (at + step) & mask
			for at > high {
				at = (at + step) & mask
			}
		}
	}
}

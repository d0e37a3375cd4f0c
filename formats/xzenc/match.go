package xzenc

import (
	"encoding/binary"
	"math/bits"
)

const (
	hash3Bits = 14
	hash4Bits = 17
	niceMatch = 128 // long enough to take without looking further
	depth     = 8   // places tried for one position
	none      = -1
)

// finder finds earlier occurrences by hash chains.
type finder struct {
	block []byte
	head2 []int32
	head3 []int32
	head4 []int32
	prev  []int32
	next  int // first position not yet inserted
	found candidate
}

// candidate is what was found for a position that was looked at ahead of time.
type candidate struct {
	pos, length int
	dist        uint32
	valid       bool
}

func (f *finder) prepare(size int) {
	f.head2 = make([]int32, 1<<16)
	f.head3 = make([]int32, 1<<hash3Bits)
	f.head4 = make([]int32, 1<<hash4Bits)
	f.prev = make([]int32, size)
}

func (f *finder) reset(block []byte) {
	f.block, f.next, f.found = block, 0, candidate{}
	for _, t := range [][]int32{f.head2, f.head3, f.head4} {
		for i := range t {
			t[i] = none
		}
	}
}

func hash3(v uint32) uint32 { return v << 8 * 2654435761 >> (32 - hash3Bits) }
func hash4(v uint32) uint32 { return v * 2654435761 >> (32 - hash4Bits) }

// insert makes positions known to the finder, from where it is up to at+n.
func (f *finder) insert(at, n int) {
	end := min(at+n, len(f.block)-3)
	for ; f.next < end; f.next++ {
		i := int32(f.next)
		v := binary.LittleEndian.Uint32(f.block[f.next:])
		f.head2[uint16(v)], f.head3[hash3(v)] = i, i
		h := hash4(v)
		f.prev[i] = f.head4[h]
		f.head4[h] = i
	}
}

// extend returns how far two places agree, at most limit.
func extend(b []byte, i, j, limit int) int {
	n := 0
	for n+8 <= limit {
		if x := binary.LittleEndian.Uint64(b[i+n:]) ^ binary.LittleEndian.Uint64(b[j+n:]); x != 0 {
			return n + bits.TrailingZeros64(x)/8
		}
		n += 8
	}
	for n < limit && b[i+n] == b[j+n] {
		n++
	}
	return n
}

// longest returns the best match at pos: the longest, but a shorter one when it is
// much nearer. All positions before pos are known already.
func (f *finder) longest(pos int) (length int, dist uint32) {
	limit := min(len(f.block)-pos, maxMatch)
	if limit < 4 {
		return 0, 0
	}
	block, prev := f.block, f.prev
	v := binary.LittleEndian.Uint32(block[pos:])
	for _, at := range [2]int32{f.head2[uint16(v)], f.head3[hash3(v)]} {
		if at < 0 {
			continue
		}
		n, d := extend(block, int(at), pos, limit), uint32(pos-int(at)-1)
		if better(n, d, length, dist) {
			length, dist = n, d
		}
	}
	enough := min(niceMatch, limit)
	at := f.head4[hash4(v)]
	for tries := depth; tries > 0 && at >= 0 && length < enough; tries-- {
		// A longer match has the four bytes that end behind the best one so far.
		from := max(length-3, 0)
		if binary.LittleEndian.Uint32(block[int(at)+from:]) == binary.LittleEndian.Uint32(block[pos+from:]) {
			n, d := extend(block, int(at), pos, limit), uint32(pos-int(at)-1)
			if better(n, d, length, dist) {
				length, dist = n, d
			}
		}
		at = prev[at]
	}
	if dearer(length, dist) {
		return 0, 0
	}
	return length, dist
}

// better tells whether a match of n bytes at distance d is worth more than the best
// one so far.
func better(n int, d uint32, length int, dist uint32) bool {
	return n > length && (length < minMatch || !nearer(dist, d) || n > length+1)
}

// dearer tells whether a match costs more than its bytes as literals.
func dearer(length int, dist uint32) bool {
	return length < minMatch || length == minMatch && dist >= 1<<7 || length == 3 && dist >= 1<<14
}

// nearer tells whether the first distance is so much smaller that one byte of
// length does not outweigh it.
func nearer(small, big uint32) bool { return small < big>>7 }

// look returns the best match at pos, remembering it.
func (f *finder) look(pos int) (int, uint32) {
	if !f.found.valid || f.found.pos != pos {
		n, d := f.longest(pos)
		f.found = candidate{pos, n, d, true}
	}
	return f.found.length, f.found.dist
}

// choose decides as the fast mode of xz does: a long repeated distance, else the
// longest match unless the next position has a better one, else a literal. Rep is
// -1 for a match; length 1 with rep 0 is one byte at the last distance.
func (e *encoder) choose() (rep, length int, dist uint32) {
	limit := min(len(e.block)-e.pos, maxMatch)
	repLen, repIndex := e.longestRep(e.pos, limit)
	if repLen >= niceMatch {
		return repIndex, repLen, 0
	}
	length, dist = e.finder.look(e.pos)
	if repLen >= minMatch && (repLen+1 >= length || repLen+2 >= length && dist >= 1<<9 || repLen+3 >= length && dist >= 1<<15) {
		return repIndex, repLen, 0
	}
	if length < minMatch || limit <= 2 {
		return e.single()
	}
	if length < niceMatch && e.betterNext(length, dist) {
		return e.single()
	}
	return -1, length, dist
}

// single returns a literal, or one byte at the last distance where it fits.
func (e *encoder) single() (rep, length int, dist uint32) {
	if at := e.pos - int(e.reps[0]) - 1; at >= 0 && e.state < afterBytes && e.block[at] == e.block[e.pos] && e.pos > 0 {
		return 0, 1, 0
	}
	return -1, 0, 0
}

func (e *encoder) longestRep(pos, limit int) (length, index int) {
	for i, d := range e.reps {
		at := pos - int(d) - 1
		if at < 0 {
			continue
		}
		if n := extend(e.block, at, pos, limit); n > length {
			length, index = n, i
		}
	}
	return length, index
}

// betterNext tells whether a literal now and a match at the next position are
// worth more than a match now.
func (e *encoder) betterNext(length int, dist uint32) bool {
	e.finder.insert(e.pos, 1)
	next, nextDist := e.finder.look(e.pos + 1)
	if next >= length && nextDist < dist || next == length+1 && !nearer(dist, nextDist) || next > length+1 ||
		next+1 >= length && length >= 3 && nearer(nextDist, dist) {
		return true
	}
	limit := min(len(e.block)-e.pos-1, max(length-1, minMatch))
	n, _ := e.longestRep(e.pos+1, limit)
	return n >= limit && limit >= minMatch
}

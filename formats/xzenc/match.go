package xzenc

import (
	"encoding/binary"
	"math/bits"
)

const (
	hash2Bits = 12
	hash3Bits = 13
	rowBits   = 15
	rowPairs  = 4 // two places each
	tagShift  = 20
	ahead     = 16  // bytes from the place that is inserted to the row that is fetched
	niceMatch = 128 // long enough to take without looking further
)

// pays holds the distances from which on short matches cost more than their bytes
// as literals do.
var pays = [...]uint32{2: 1 << 5, 3: 1 << 10, 4: 1 << 16}

// finder finds earlier occurrences of what comes next. Four bytes choose a row that
// holds the last eight places with the same hash, so that a search waits for one
// cache line where a chain waits for eight. A place carries more bits of its hash,
// which rule most of the wrong ones out without a look at the block. Matches of two
// and three bytes pay only nearby: the lowest 16 bits of those places are enough.
type finder struct {
	block   []byte
	last2   [1 << hash2Bits]uint16
	last3   [1 << hash3Bits]uint16
	rows    [1 << rowBits]row
	next    int    // first position not yet inserted
	fetched uint64 // keeps the compiler from dropping the reads ahead
	found   candidate
}

// row holds places, each with its tag above tagShift, from the newest, which is
// the lower half of the first word, to the oldest. A free entry is the place 0 with
// the tag 0, which the block rules out as any other.
type row [rowPairs]uint64

// candidate is what was found for a position that was looked at ahead of time.
type candidate struct {
	pos, length int
	dist        uint32
	valid       bool
}

func (f *finder) reset(block []byte) {
	f.block, f.next, f.found = block, 0, candidate{}
	clear(f.last2[:])
	clear(f.last3[:])
	clear(f.rows[:])
}

const prime = 2654435761 // the golden ratio's part of 2^32 (Knuth, multiplicative hashing)

func hash2(v uint32) uint32 { return v << 16 * prime >> (32 - hash2Bits) }
func hash3(v uint32) uint32 { return v << 8 * prime >> (32 - hash3Bits) }

// hash4 returns a row's index, and further bits of the hash as the tag of a place.
func hash4(v uint32) (index, tag uint32) {
	h := v * prime
	return h >> (32 - rowBits), h << rowBits &^ (1<<tagShift - 1)
}

// insert makes positions known to the finder, from where it is up to at+n.
func (f *finder) insert(at, n int) {
	known := len(f.block) - 3
	end, fetched := min(at+n, known), f.fetched
	for ; f.next < end; f.next++ {
		if f.next+ahead < known { // the rows lie far apart in memory
			i, _ := hash4(binary.LittleEndian.Uint32(f.block[f.next+ahead:]))
			fetched += f.rows[i][0]
		}
		v := binary.LittleEndian.Uint32(f.block[f.next:])
		f.last2[hash2(v)], f.last3[hash3(v)] = uint16(f.next), uint16(f.next)
		i, tag := hash4(v)
		r := &f.rows[i]
		r[3] = r[3]<<32 | r[2]>>32
		r[2] = r[2]<<32 | r[1]>>32
		r[1] = r[1]<<32 | r[0]>>32
		r[0] = r[0]<<32 | uint64(tag|uint32(f.next))
	}
	f.fetched = fetched
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
	length, dist = f.nearby(pos, limit)
	if length < min(niceMatch, limit) {
		length, dist = f.inRow(pos, limit, length, dist)
	}
	if length < minMatch || length < len(pays) && dist >= pays[length] {
		return 0, 0
	}
	return length, dist
}

// nearby returns the best of the last places of two and of three bytes.
func (f *finder) nearby(pos, limit int) (length int, dist uint32) {
	v := binary.LittleEndian.Uint32(f.block[pos:])
	for i, last := range [2]uint16{f.last2[hash2(v)], f.last3[hash3(v)]} {
		d := uint32(uint16(pos) - last)
		if d == 0 || d > pays[i+minMatch] || int(d) > pos {
			continue
		}
		if n := extend(f.block, pos-int(d), pos, limit); n >= minMatch && better(n, d-1, length, dist) {
			length, dist = n, d-1
		}
	}
	return length, dist
}

// inRow looks for a better match in the row of the next four bytes.
func (f *finder) inRow(pos, limit, length int, dist uint32) (int, uint32) {
	block, enough := f.block, min(niceMatch, limit)
	index, tag := hash4(binary.LittleEndian.Uint32(block[pos:]))
	for _, pair := range f.rows[index] {
		for range 2 {
			entry := uint32(pair)
			pair >>= 32
			at := int(entry & (1<<tagShift - 1))
			if (entry^tag)>>tagShift != 0 || at >= pos {
				continue
			}
			// A longer match has the four bytes that end behind the best one so far.
			from := max(length-3, 0)
			if binary.LittleEndian.Uint32(block[at+from:]) != binary.LittleEndian.Uint32(block[pos+from:]) {
				continue
			}
			n, d := extend(block, at, pos, limit), uint32(pos-at-1)
			if better(n, d, length, dist) {
				length, dist = n, d
			}
			if length >= enough {
				return length, dist
			}
		}
	}
	return length, dist
}

// better reports whether a match of n bytes at distance d is worth more than the
// best one so far.
func better(n int, d uint32, length int, dist uint32) bool {
	return n > length && (length < minMatch || !nearer(dist, d) || n > length+1)
}

// nearer reports whether the first distance is so much smaller that one byte of
// length does not outweigh it.
func nearer(small, big uint32) bool { return small < big>>6 }

// look returns the best match at pos, remembering it.
func (f *finder) look(pos int) (int, uint32) {
	if !f.found.valid || f.found.pos != pos {
		n, d := f.longest(pos)
		f.found = candidate{pos, n, d, true}
	}
	return f.found.length, f.found.dist
}

// encoder is the fast encoder, for one block at a time.
type encoder struct {
	coder
	finder finder
}

func newEncoder() *encoder { return &encoder{coder: newCoder(anyData)} }

func (e *encoder) start(block []byte) {
	e.coder.start(block)
	e.finder.reset(block)
}

func (e *encoder) coding() *coder { return &e.coder }

// chunk encodes symbols until the chunk is full.
func (e *encoder) chunk(dst []byte) []byte {
	e.rc.start(dst)
	for e.pos < len(e.block) && e.rc.pending() < chunkMax-chunkMargin {
		e.symbol()
	}
	return e.rc.finish()
}

// giveUp has nothing to drop: symbols are chosen one by one.
func (e *encoder) giveUp() int { return e.pos }

// symbol encodes what comes next: a literal, a repeated distance or a match.
func (e *encoder) symbol() {
	from := e.pos
	rep, length, dist := e.choose()
	switch {
	case length < minMatch && rep == 0 && length == 1:
		e.shortRep()
	case length < minMatch:
		e.literal()
	case rep >= 0:
		e.repMatch(rep, length)
	default:
		e.match(dist, length)
	}
	e.finder.insert(from, e.pos-from)
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

// betterNext reports whether a literal now and a match at the next position are
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

package zstdenc

import (
	"encoding/binary"
	"math/bits"
)

const (
	fastBits   = 14 // of the greedy search's hash
	chainBits  = 16 // of the lazy search's hash
	tailMargin = 8  // bytes at the end at which no match begins
)

func load32(b []byte, i int) uint32 { return binary.LittleEndian.Uint32(b[i : i+4]) }
func load64(b []byte, i int) uint64 { return binary.LittleEndian.Uint64(b[i : i+8]) }

// hash5 hashes the lower five bytes.
func hash5(v uint64) uint32 { return uint32(v << 24 * 889523592379 >> (64 - fastBits)) }
func hash4(v uint32) uint32 { return v * 2654435761 >> (32 - chainBits) }

// same returns how many bytes from i on are as those from j on, j behind i, up to end.
func same(b []byte, i, j, end int) int {
	start := j
	for j+8 <= end {
		if x := load64(b, i) ^ load64(b, j); x != 0 {
			return j - start + bits.TrailingZeros64(x)/8
		}
		i, j = i+8, j+8
	}
	for j < end && b[i] == b[j] {
		i, j = i+1, j+1
	}
	return j - start
}

// greedy takes the first match it sees: at the last distance or at the last place
// with the same hash.
func (e *Encoder) greedy(from, to int) {
	src, table := e.src, (*[1 << fastBits]uint32)(e.fast)
	anchor, pos, limit := from, max(from, 1), to-tailMargin
	rep := int(e.reps[0])
	for pos < limit {
		v := load64(src, pos)
		h := hash5(v)
		at := int(table[h])
		table[h] = uint32(pos)
		if pos+1 >= rep && load32(src, pos+1-rep) == uint32(v>>8) {
			pos++
			n := 4 + same(src, pos+4-rep, pos+4, to)
			e.emit(anchor, pos, n, 1)
			pos += n
		} else if load32(src, at) == uint32(v) && at < pos {
			n := 4 + same(src, at+4, pos+4, to)
			for pos > anchor && at > 0 && src[pos-1] == src[at-1] {
				pos, at, n = pos-1, at-1, n+1
			}
			e.reps[1], rep = uint32(rep), pos-at
			e.emit(anchor, pos, n, uint32(rep)+3)
			start := pos
			pos += n
			if pos < limit {
				table[hash5(load64(src, start+2))] = uint32(start + 2)
				table[hash5(load64(src, pos-2))] = uint32(pos - 2)
			}
		} else {
			pos += 1 + (pos-anchor)>>6
			continue
		}
		e.reps[0] = uint32(rep)
		pos = e.repeated(pos, limit, to)
		anchor, rep = pos, int(e.reps[0])
	}
	e.lits = append(e.lits, src[anchor:to]...)
}

// repeated takes matches at the distance before the last one, directly behind a match.
func (e *Encoder) repeated(pos, limit, to int) int {
	for pos < limit && pos >= int(e.reps[1]) && load32(e.src, pos) == load32(e.src, pos-int(e.reps[1])) {
		n := 4 + same(e.src, pos+4-int(e.reps[1]), pos+4, to)
		e.reps[0], e.reps[1] = e.reps[1], e.reps[0]
		e.emit(pos, pos, n, 1)
		pos += n
	}
	return pos
}

// chains link the earlier places with the same hash.
type chains struct {
	head  []uint32
	prev  []uint32
	next  int // first position not yet in them
	tries int
}

func newChains(size, tries int) chains {
	return chains{head: make([]uint32, 1<<chainBits), prev: make([]uint32, size), tries: tries}
}

func (c *chains) reset() {
	clear(c.head)
	c.next = 1
}

// match is a candidate: length bytes at pos, off as in [sequence].
type match struct {
	pos, length int
	off         uint32
}

// worth weighs the length against the bits of the distance.
func (m match) worth() int { return 4*m.length - bits.Len32(m.off) }

// longest returns the longest match at pos that the chains lead to.
func (e *Encoder) longest(pos, to int) match {
	c, src := &e.chain, e.src
	head, prev := (*[1 << chainBits]uint32)(c.head), c.prev[:len(src)]
	for ; c.next < pos; c.next++ {
		h := hash4(load32(src, c.next))
		prev[c.next] = head[h]
		head[h] = uint32(c.next)
	}
	best := match{pos: pos, length: minMatch - 1}
	at := int(head[hash4(load32(src, pos))])
	end := load32(src, pos)
	for tries := c.tries; tries > 0 && at > 0; tries-- {
		// What is longer has the four bytes at the end of the best one and one more.
		if load32(src, at+best.length-3) == end {
			if n := same(src, at, pos, to); n > best.length {
				best.length, best.off = n, uint32(pos-at)+3
				if pos+n >= to {
					break
				}
				end = load32(src, pos+n-3)
			}
		}
		at = int(prev[at])
	}
	return best
}

// repeat returns the match at the last distance.
func (e *Encoder) repeat(pos, to int) match {
	rep := int(e.reps[0])
	if pos < rep || load32(e.src, pos) != load32(e.src, pos-rep) {
		return match{pos: pos, off: 1}
	}
	return match{pos, 4 + same(e.src, pos+4-rep, pos+4, to), 1}
}

// lazy takes a match only when the next two positions have none that is worth more.
func (e *Encoder) lazy(from, to int) {
	anchor, pos, limit := from, max(from, 1), to-tailMargin
	for pos < limit {
		best := e.repeat(pos+1, to)
		if m := e.longest(pos, to); m.length >= minMatch && m.length > best.length {
			best = m
		}
		if best.length < minMatch {
			pos += 1 + (pos-anchor)>>8
			continue
		}
		best = e.improve(best, pos, limit, to)
		best = e.extendBack(best, anchor)
		e.emit(anchor, best.pos, best.length, best.off)
		pos = e.repeated(best.pos+best.length, limit, to)
		anchor = pos
	}
	e.lits = append(e.lits, e.src[anchor:to]...)
}

// improve looks at the positions behind pos as long as they have something better.
func (e *Encoder) improve(best match, pos, limit, to int) match {
	for ahead := 1; ahead <= 2 && pos+ahead < limit; ahead++ {
		at := pos + ahead
		margin := 4 // for the literal that comes before it
		if ahead == 2 {
			margin = 7
		}
		if m := e.repeat(at, to); m.length >= minMatch && m.worth() > best.worth()+1 {
			best = m
		}
		if m := e.longest(at, to); m.length >= minMatch && m.worth() > best.worth()+margin {
			best, pos, ahead = m, at, 0
		}
	}
	return best
}

// extendBack lengthens a match to the left and notes its distance.
func (e *Encoder) extendBack(m match, anchor int) match {
	if m.off == 1 {
		return m
	}
	d := int(m.off) - 3
	for m.pos > anchor && m.pos > d && e.src[m.pos-1] == e.src[m.pos-1-d] {
		m.pos, m.length = m.pos-1, m.length+1
	}
	e.reps[1], e.reps[0] = e.reps[0], uint32(d)
	return m
}

package xzenc

import "math/bits"

// Parameters of the format: three bits of the byte before and two of the position
// choose the probabilities.
const (
	literalBits = 3
	posMask     = 1<<2 - 1
	properties  = (2*5+0)*9 + literalBits

	states      = 12
	afterBytes  = 7 // states below it follow a literal
	minMatch    = 2
	maxMatch    = 273
	slotStates  = 4
	alignBits   = 4
	firstDirect = 14 // distance slots from here on have bits without a model
	firstModel  = 4
	fullModel   = 128
)

// lengths are the probabilities of match lengths.
type lengths struct {
	choice, choice2 uint16
	low, mid        [posMask + 1][8]uint16
	high            [256]uint16
}

// model are all probabilities.
type model struct {
	match            [states][posMask + 1]uint16
	rep, rep0, rep1  [states]uint16
	rep2             [states]uint16
	rep0Long         [states][posMask + 1]uint16
	literal          [1 << literalBits][0x300]uint16
	slot             [slotStates][64]uint16
	special          [fullModel - firstDirect + 1]uint16
	align            [1 << alignBits]uint16
	matchLen, repLen lengths
}

// encoder is an LZMA2 encoder for one block at a time.
type encoder struct {
	rc     rangeCoder
	m      model
	state  int
	reps   [4]uint32
	finder finder
	block  []byte
	pos    int
}

const (
	chunkMax    = 64 << 10 // packed bytes of an LZMA2 chunk
	chunkMargin = 512      // more than one symbol takes
	chunkHeader = 6

	controlFirst = 0xe0 // resets dictionary, state and properties
	controlNext  = 0x80
)

// append appends the LZMA2 chunks of a block, without the end marker.
func (e *encoder) append(dst, block []byte) []byte {
	e.block, e.pos, e.state, e.reps = block, 0, 0, [4]uint32{}
	e.m.reset()
	e.finder.reset(block)
	control := byte(controlFirst)
	for e.pos < len(block) {
		from := e.pos
		head := len(dst)
		dst = append(dst, make([]byte, chunkHeader-1)...)
		if control == controlFirst {
			dst = append(dst, properties)
		}
		dst = e.chunk(dst)
		size := e.pos - from - 1
		packed := len(dst) - head - chunkHeader - 1
		if control == controlNext { // its header has no properties
			packed++
		}
		dst[head] = control | byte(size>>16)
		dst[head+1], dst[head+2] = byte(size>>8), byte(size)
		dst[head+3], dst[head+4] = byte(packed>>8), byte(packed)
		control = controlNext
	}
	return dst
}

// chunk encodes symbols until the chunk is full.
func (e *encoder) chunk(dst []byte) []byte {
	e.rc.start(dst)
	for e.pos < len(e.block) && e.rc.pending() < chunkMax-chunkMargin {
		e.symbol()
	}
	return e.rc.finish()
}

// symbol encodes what comes next: a literal, a repeated distance or a match.
func (e *encoder) symbol() {
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
}

// position is the part of the position that chooses probabilities.
func (e *encoder) position() int { return e.pos & posMask }

func (e *encoder) literal() {
	rc, b := &e.rc, e.block[e.pos]
	rc.bit(&e.m.match[e.state][e.position()], 0)
	before := byte(0)
	if e.pos > 0 {
		before = e.block[e.pos-1]
	}
	probs := &e.m.literal[before>>(8-literalBits)]
	if e.state < afterBytes {
		rc.tree(probs[:0x100], 8, uint32(b))
	} else {
		e.matchedLiteral(probs, b, e.block[e.pos-int(e.reps[0])-1])
	}
	switch {
	case e.state < 4:
		e.state = 0
	case e.state < 10:
		e.state -= 3
	default:
		e.state -= 6
	}
	e.advance(1)
}

// matchedLiteral encodes a literal behind a match, where the byte that the match
// would have gone on with is known not to come.
func (e *encoder) matchedLiteral(probs *[0x300]uint16, b, expected byte) {
	offset, symbol, want := uint32(0x100), uint32(b)+0x100, uint32(expected)
	for symbol < 0x10000 {
		want <<= 1
		bit := symbol >> 7 & 1
		e.rc.bit(&probs[offset+(want&offset)+symbol>>8], bit)
		symbol <<= 1
		offset &= ^(want ^ symbol)
	}
}

func (e *encoder) shortRep() {
	pos := e.position()
	e.rc.bit(&e.m.match[e.state][pos], 1)
	e.rc.bit(&e.m.rep[e.state], 1)
	e.rc.bit(&e.m.rep0[e.state], 0)
	e.rc.bit(&e.m.rep0Long[e.state][pos], 0)
	e.setState(9, 11)
	e.advance(1)
}

// setState takes the state after a literal or after anything else.
func (e *encoder) setState(afterLiteral, otherwise int) {
	if e.state < afterBytes {
		e.state = afterLiteral
	} else {
		e.state = otherwise
	}
}

func (e *encoder) repMatch(rep, length int) {
	pos, rc, s := e.position(), &e.rc, e.state
	rc.bit(&e.m.match[s][pos], 1)
	rc.bit(&e.m.rep[s], 1)
	if rep == 0 {
		rc.bit(&e.m.rep0[s], 0)
		rc.bit(&e.m.rep0Long[s][pos], 1)
	} else {
		rc.bit(&e.m.rep0[s], 1)
		if rep == 1 {
			rc.bit(&e.m.rep1[s], 0)
		} else {
			rc.bit(&e.m.rep1[s], 1)
			rc.bit(&e.m.rep2[s], uint32(rep-2))
		}
		dist := e.reps[rep]
		copy(e.reps[1:rep+1], e.reps[:rep])
		e.reps[0] = dist
	}
	e.length(&e.m.repLen, length, pos)
	e.setState(8, 11)
	e.advance(length)
}

func (e *encoder) match(dist uint32, length int) {
	pos := e.position()
	e.rc.bit(&e.m.match[e.state][pos], 1)
	e.rc.bit(&e.m.rep[e.state], 0)
	e.length(&e.m.matchLen, length, pos)
	e.distance(dist, min(length-minMatch, slotStates-1))
	copy(e.reps[1:], e.reps[:3])
	e.reps[0] = dist
	e.setState(7, 10)
	e.advance(length)
}

func (e *encoder) length(l *lengths, length, pos int) {
	n := uint32(length - minMatch)
	switch {
	case n < 8:
		e.rc.bit(&l.choice, 0)
		e.rc.tree(l.low[pos][:], 3, n)
	case n < 16:
		e.rc.bit(&l.choice, 1)
		e.rc.bit(&l.choice2, 0)
		e.rc.tree(l.mid[pos][:], 3, n-8)
	default:
		e.rc.bit(&l.choice, 1)
		e.rc.bit(&l.choice2, 1)
		e.rc.tree(l.high[:], 8, n-16)
	}
}

// slotOf returns a distance's slot: its two highest bits and their place.
func slotOf(dist uint32) uint32 {
	if dist < firstModel {
		return dist
	}
	n := uint32(bits.Len32(dist)) - 1
	return n*2 + dist>>(n-1)&1
}

func (e *encoder) distance(dist uint32, lengthState int) {
	slot := slotOf(dist)
	e.rc.tree(e.m.slot[lengthState][:], 6, slot)
	if slot < firstModel {
		return
	}
	footerBits := slot>>1 - 1
	base := (2 | slot&1) << footerBits
	rest := dist - base
	if slot < firstDirect {
		e.rc.reverse(e.m.special[base-slot:], int(footerBits), rest)
		return
	}
	e.rc.direct(rest>>alignBits, int(footerBits)-alignBits)
	e.rc.reverse(e.m.align[:], alignBits, rest&(1<<alignBits-1))
}

func (e *encoder) advance(n int) {
	e.finder.insert(e.pos, n)
	e.pos += n
}

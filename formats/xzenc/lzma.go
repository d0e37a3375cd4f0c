package xzenc

import "math/bits"

// Parameters of the format: two bits of the position choose probabilities.
const (
	positionBits = 2
	posMask      = 1<<positionBits - 1
	literalSize  = 0x300

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
	literal          [][literalSize]uint16 // by the context
	slot             [slotStates][64]uint16
	special          [fullModel - firstDirect + 1]uint16
	align            [1 << alignBits]uint16
	matchLen, repLen lengths
}

// literalContext is what the probabilities of a literal depend on: the highest bits of the
// byte before it, and the lowest bits of its position.
type literalContext struct{ before, position uint8 }

var (
	anyData = literalContext{before: 3}
	// words is for data of units of four bytes, as code for ARM is.
	words = literalContext{before: 2, position: 2}
)

// property is the byte that tells the decoder the parameters.
func (c literalContext) property() byte { return (positionBits*5+c.position)*9 + c.before }

// coder encodes symbols and keeps what they change: the probabilities, the state and
// the last distances.
type coder struct {
	rc      rangeCoder
	m       model
	context literalContext
	state   int
	reps    [4]uint32
	block   []byte
	pos     int
}

func newCoder(c literalContext) coder {
	return coder{context: c, m: model{literal: make([][literalSize]uint16, 1<<(c.before+c.position))}}
}

// start prepares for the symbols of a block.
func (c *coder) start(block []byte) {
	c.block, c.pos = block, 0
	c.reset()
}

// reset forgets what the symbols so far have changed.
func (c *coder) reset() {
	c.state, c.reps = 0, [4]uint32{}
	c.m.reset()
}

// position is the part of the position that chooses probabilities.
func (c *coder) position() int { return c.pos & posMask }

func (c *coder) literal() {
	rc, b := &c.rc, c.block[c.pos]
	rc.bit(&c.m.match[c.state][c.position()], 0)
	probs := c.literalModel(c.pos)
	if c.state < afterBytes {
		rc.tree(probs[:0x100], 8, uint32(b))
	} else {
		c.matchedLiteral(probs, b, c.block[c.pos-int(c.reps[0])-1])
	}
	switch {
	case c.state < 4:
		c.state = 0
	case c.state < 10:
		c.state -= 3
	default:
		c.state -= 6
	}
	c.pos++
}

// literalModel returns the probabilities for a literal at a place of the block.
func (c *coder) literalModel(at int) *[literalSize]uint16 {
	before := byte(0)
	if at > 0 {
		before = c.block[at-1]
	}
	place := at & (1<<c.context.position - 1)
	return &c.m.literal[place<<c.context.before|int(before>>(8-c.context.before))]
}

// matchedLiteral encodes a literal behind a match, where the byte that the match
// would have gone on with is known not to come.
func (c *coder) matchedLiteral(probs *[literalSize]uint16, b, expected byte) {
	offset, symbol, want := uint32(0x100), uint32(b)+0x100, uint32(expected)
	for symbol < 0x10000 {
		want <<= 1
		bit := symbol >> 7 & 1
		c.rc.bit(&probs[offset+(want&offset)+symbol>>8], bit)
		symbol <<= 1
		offset &= ^(want ^ symbol)
	}
}

func (c *coder) shortRep() {
	pos := c.position()
	c.rc.bit(&c.m.match[c.state][pos], 1)
	c.rc.bit(&c.m.rep[c.state], 1)
	c.rc.bit(&c.m.rep0[c.state], 0)
	c.rc.bit(&c.m.rep0Long[c.state][pos], 0)
	c.setState(9, 11)
	c.pos++
}

// setState takes the state after a literal or after anything else.
func (c *coder) setState(afterLiteral, otherwise int) {
	if c.state < afterBytes {
		c.state = afterLiteral
	} else {
		c.state = otherwise
	}
}

func (c *coder) repMatch(rep, length int) {
	pos, rc, s := c.position(), &c.rc, c.state
	rc.bit(&c.m.match[s][pos], 1)
	rc.bit(&c.m.rep[s], 1)
	if rep == 0 {
		rc.bit(&c.m.rep0[s], 0)
		rc.bit(&c.m.rep0Long[s][pos], 1)
	} else {
		rc.bit(&c.m.rep0[s], 1)
		if rep == 1 {
			rc.bit(&c.m.rep1[s], 0)
		} else {
			rc.bit(&c.m.rep1[s], 1)
			rc.bit(&c.m.rep2[s], uint32(rep-2))
		}
		dist := c.reps[rep]
		copy(c.reps[1:rep+1], c.reps[:rep])
		c.reps[0] = dist
	}
	c.length(&c.m.repLen, length, pos)
	c.setState(8, 11)
	c.pos += length
}

func (c *coder) match(dist uint32, length int) {
	pos := c.position()
	c.rc.bit(&c.m.match[c.state][pos], 1)
	c.rc.bit(&c.m.rep[c.state], 0)
	c.length(&c.m.matchLen, length, pos)
	c.distance(dist, min(length-minMatch, slotStates-1))
	copy(c.reps[1:], c.reps[:3])
	c.reps[0] = dist
	c.setState(7, 10)
	c.pos += length
}

func (c *coder) length(l *lengths, length, pos int) {
	n := uint32(length - minMatch)
	switch {
	case n < 8:
		c.rc.bit(&l.choice, 0)
		c.rc.tree(l.low[pos][:], 3, n)
	case n < 16:
		c.rc.bit(&l.choice, 1)
		c.rc.bit(&l.choice2, 0)
		c.rc.tree(l.mid[pos][:], 3, n-8)
	default:
		c.rc.bit(&l.choice, 1)
		c.rc.bit(&l.choice2, 1)
		c.rc.tree(l.high[:], 8, n-16)
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

func (c *coder) distance(dist uint32, lengthState int) {
	slot := slotOf(dist)
	c.rc.tree(c.m.slot[lengthState][:], 6, slot)
	if slot < firstModel {
		return
	}
	footerBits := slot>>1 - 1
	base := (2 | slot&1) << footerBits
	rest := dist - base
	if slot < firstDirect {
		c.rc.reverse(c.m.special[base-slot:], int(footerBits), rest)
		return
	}
	c.rc.direct(rest>>alignBits, int(footerBits)-alignBits)
	c.rc.reverse(c.m.align[:], alignBits, rest&(1<<alignBits-1))
}

// longestRep returns the longest match at one of the last distances.
func (c *coder) longestRep(pos, limit int) (length, index int) {
	for i, d := range c.reps {
		at := pos - int(d) - 1
		if at < 0 {
			continue
		}
		// Most differ at once.
		if length < limit && c.block[at+length] == c.block[pos+length] {
			if n := extend(c.block, at, pos, limit); n > length {
				length, index = n, i
			}
		}
	}
	return length, index
}

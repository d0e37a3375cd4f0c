package xzenc

import "encoding/binary"

const (
	segment = 4 << 10 // places that are decided on together, at most
	// reach is how far one step goes: two matches and a literal.
	reach    = 2*maxMatch + 1
	infinity = 1 << 30

	// The kinds of a step are the number of the last distance that it repeats, or the
	// distance behind those, or this one.
	noMatch   = ^uint32(0)
	firstDist = uint32(len(coder{}.reps))

	distEvery  = 128 // matches after which prices of distances are computed anew
	alignEvery = 16  // distances beyond those with a model of their own
)

// step is a symbol, or a symbol, a literal and a repetition of the last distance: what is
// behind a change of one byte often goes on as before.
type step struct {
	kind   uint32
	length uint16 // all bytes that it stands for
	tail   uint16 // of them, those of the repetition
}

// node is the cheapest way found so far to a place of a segment.
type node struct {
	price uint32
	step  // the last one
	// What the coder has there.
	state uint8
	reps  [4]uint32
}

// parser is the strong encoder: it looks for the cheapest sequence of symbols, with prices
// by the probabilities of the moment.
type parser struct {
	coder
	trees  trees
	window int // its limit

	lengths, repLengths lengthPrices
	dists               distPrices
	// How many symbols have been coded since the prices were computed.
	lengthsUsed, repLengthsUsed [posMask + 1]int
	distsUsed, alignsUsed       int

	nodes  [segment + reach + 1]node
	end    int     // the last node that has a way to it
	ready  []step  // decided, the next one last
	ahead  []found // matches of the next place when it was looked at already
	looked bool
}

// The state after a symbol.
var (
	afterLiteral = [states]uint8{0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 4, 5}
	afterMatch   = [states]uint8{7, 7, 7, 7, 7, 7, 7, 10, 10, 10, 10, 10}
	afterRep     = [states]uint8{8, 8, 8, 8, 8, 8, 8, 11, 11, 11, 11, 11}
	afterShort   = [states]uint8{9, 9, 9, 9, 9, 9, 9, 11, 11, 11, 11, 11}
)

// newParser returns an encoder with a window of up to a power of two of bytes, that takes
// matches of enough bytes without looking further, and compares up to steps places.
func newParser(c literalContext, window, enough, steps int) *parser {
	return &parser{coder: newCoder(c), window: window, trees: trees{enough: enough, steps: steps}}
}

func (p *parser) coding() *coder { return &p.coder }

func (p *parser) start(block []byte) {
	p.coder.start(block)
	p.trees.reset(block, windowFor(len(block), p.window))
	p.ready, p.looked = p.ready[:0], false
	p.reprice()
}

// reprice computes all prices.
func (p *parser) reprice() {
	for pos := range posMask + 1 {
		p.lengthsUsed[pos], p.repLengthsUsed[pos] = infinity, infinity
	}
	p.distsUsed, p.alignsUsed = infinity, infinity
	p.refresh()
}

// refresh computes prices that many symbols have changed since.
func (p *parser) refresh() {
	enough := p.trees.enough
	for pos := range posMask + 1 {
		if p.lengthsUsed[pos] >= enough {
			p.lengths.fill(&p.m.matchLen, pos, enough)
			p.lengthsUsed[pos] = 0
		}
		if p.repLengthsUsed[pos] >= enough {
			p.repLengths.fill(&p.m.repLen, pos, enough)
			p.repLengthsUsed[pos] = 0
		}
	}
	if p.distsUsed >= distEvery {
		p.dists.fill(&p.m, slotOf(p.trees.mask)+1)
		p.distsUsed = 0
	}
	if p.alignsUsed >= alignEvery {
		p.dists.fillAlign(&p.m)
		p.alignsUsed = 0
	}
}

// chunk encodes symbols until the chunk is full.
func (p *parser) chunk(dst []byte) []byte {
	p.rc.start(dst)
	from := p.pos
	for p.pos < len(p.block) && p.rc.pending() < chunkMax-chunkMargin && p.pos-from < chunkPlain-plainMargin {
		if len(p.ready) == 0 {
			p.decide()
		}
		s := p.ready[len(p.ready)-1]
		p.ready = p.ready[:len(p.ready)-1]
		p.encode(s)
	}
	return p.rc.finish()
}

// giveUp drops the steps that are decided on: they build on a state that the decoder will
// not have.
func (p *parser) giveUp() int {
	p.ready, p.looked = p.ready[:0], false
	p.coder.reset()
	p.reprice()
	return p.trees.pos
}

// encode encodes a step.
func (p *parser) encode(s step) {
	head := int(s.length)
	if s.tail > 0 {
		head -= int(s.tail) + 1
	}
	switch {
	case s.kind == noMatch:
		if head == 1 {
			p.literal()
		}
	case head == 1:
		p.shortRep()
	case s.kind < firstDist:
		p.repLengthsUsed[p.position()]++
		p.repMatch(int(s.kind), head)
	default:
		p.lengthsUsed[p.position()]++
		p.distsUsed++
		if s.kind-firstDist >= fullModel {
			p.alignsUsed++
		}
		p.match(s.kind-firstDist, head)
	}
	if s.tail > 0 {
		p.literal()
		p.repLengthsUsed[p.position()]++
		p.repMatch(0, int(s.tail))
	}
}

// look returns the matches of the next place that the finder has not passed.
func (p *parser) look() []found {
	if !p.looked {
		p.ahead = p.trees.find(p.ahead[:0])
	}
	p.looked = false
	return p.ahead
}

// decide finds the next steps.
func (p *parser) decide() {
	if p.pos == 0 { // no distance is valid yet
		p.trees.skip(1)
		p.ready = append(p.ready, step{kind: noMatch, length: 1})
		return
	}
	p.refresh()
	matches := p.look()
	if s, ok := p.long(matches); ok {
		p.trees.skip(int(s.length) - 1)
		p.ready = append(p.ready, s)
		return
	}
	first := &p.nodes[0]
	first.price, first.state, first.reps = 0, uint8(p.state), p.reps
	p.end = 0
	p.extend(0, matches)
	at := 1
	for ; at < p.end && at < segment; at++ {
		matches = p.look()
		if n := len(matches); n > 0 && matches[n-1].length >= p.trees.enough {
			p.looked = true
			break
		}
		p.arrive(at)
		p.extend(at, matches)
	}
	for ; at > 0; at -= int(p.nodes[at].length) {
		p.ready = append(p.ready, p.nodes[at].step)
	}
}

// long returns a step that is long enough to take without comparing prices.
func (p *parser) long(matches []found) (step, bool) {
	limit := min(len(p.block)-p.pos, maxMatch)
	if n, rep := p.longestRep(p.pos, limit); n >= p.trees.enough {
		return step{kind: uint32(rep), length: uint16(n)}, true
	}
	if n := len(matches); n > 0 && matches[n-1].length >= p.trees.enough {
		m := matches[n-1]
		return step{kind: firstDist + m.dist, length: uint16(m.length)}, true
	}
	return step{}, false
}

// arrive computes what the coder has at a node from the node before it.
func (p *parser) arrive(at int) {
	n := &p.nodes[at]
	from := &p.nodes[at-int(n.length)]
	state, head := from.state, n.length
	if n.tail > 0 {
		head -= n.tail + 1
	}
	n.reps = from.reps
	switch {
	case n.kind == noMatch:
		if head == 1 {
			state = afterLiteral[state]
		}
	case head == 1:
		state = afterShort[state]
	case n.kind < firstDist:
		copy(n.reps[1:n.kind+1], from.reps[:n.kind])
		n.reps[0], state = from.reps[n.kind], afterRep[state]
	default:
		copy(n.reps[1:], from.reps[:])
		n.reps[0], state = n.kind-firstDist, afterMatch[state]
	}
	if n.tail > 0 {
		state = afterRep[afterLiteral[state]]
	}
	n.state = state
}

// grow makes nodes up to a place.
func (p *parser) grow(to int) {
	for p.end < to {
		p.end++
		p.nodes[p.end].price = infinity
	}
}

// offer takes a way to a node if it is cheaper.
func (p *parser) offer(to int, price uint32, s step) {
	if n := &p.nodes[to]; price < n.price {
		n.price, n.step = price, s
	}
}

// extend offers all steps from a node.
func (p *parser) extend(at int, matches []found) {
	n := &p.nodes[at]
	place := p.pos + at
	pos := place & posMask
	match := n.price + price1(p.m.match[n.state][pos])
	rep := match + price1(p.m.rep[n.state])
	p.single(at, rep)
	limit := min(len(p.block)-place, p.trees.enough)
	if limit < minMatch {
		return
	}
	from := p.repeated(at, rep, limit)
	if len(matches) > 0 {
		p.matched(at, match+price0(p.m.rep[n.state]), limit, from, matches)
	}
}

// single offers a literal, a literal and a repetition, and one byte at the last distance.
func (p *parser) single(at int, rep uint32) {
	n := &p.nodes[at]
	place := p.pos + at
	pos := place & posMask
	b, expected := p.block[place], p.block[place-int(n.reps[0])-1]
	price := n.price + price0(p.m.match[n.state][pos]) + p.literalCost(place, n.state, expected)
	p.grow(at + 1)
	p.offer(at+1, price, step{kind: noMatch, length: 1})
	if b != expected {
		if p.nodes[at+1].kind == noMatch && p.nodes[at+1].length == 1 {
			p.tail(at, 0, step{kind: noMatch}, price, afterLiteral[n.state], n.reps[0])
		}
		return
	}
	short := rep + price0(p.m.rep0[n.state]) + price0(p.m.rep0Long[n.state][pos])
	p.offer(at+1, short, step{kind: 0, length: 1})
}

// literalCost is the price of the literal at a place.
func (p *parser) literalCost(place int, state uint8, expected byte) uint32 {
	probs := p.literalModel(place)
	if state < afterBytes {
		return literalPrice(probs, p.block[place])
	}
	return matchedPrice(probs, p.block[place], expected)
}

// tail offers a step with a literal, which costs price and leads to state, and a
// repetition of a distance behind it, if there is one.
func (p *parser) tail(at, head int, s step, price uint32, state uint8, dist uint32) {
	place := p.pos + at + head + 1
	limit := min(len(p.block)-place, p.trees.enough)
	if limit < minMatch {
		return
	}
	back := place - int(dist) - 1
	if binary.LittleEndian.Uint16(p.block[place:]) != binary.LittleEndian.Uint16(p.block[back:]) {
		return
	}
	n := extend(p.block, back, place, limit)
	to := at + head + 1 + n
	price += p.rep0Cost(place&posMask, state, n)
	p.grow(to)
	p.offer(to, price, step{kind: s.kind, length: uint16(head + 1 + n), tail: uint16(n)})
}

// rep0Cost is the price of a repetition of the last distance.
func (p *parser) rep0Cost(pos int, state uint8, length int) uint32 {
	return price1(p.m.match[state][pos]) + price1(p.m.rep[state]) + price0(p.m.rep0[state]) +
		price1(p.m.rep0Long[state][pos]) + p.repLengths[pos][length]
}

// repCost is the price of the choice among the last distances.
func (p *parser) repCost(rep, pos int, state uint8) uint32 {
	if rep == 0 {
		return price0(p.m.rep0[state]) + price1(p.m.rep0Long[state][pos])
	}
	price := price1(p.m.rep0[state])
	if rep == 1 {
		return price + price0(p.m.rep1[state])
	}
	return price + price1(p.m.rep1[state]) + bitPrice(p.m.rep2[state], uint32(rep-2))
}

// repeated offers repetitions of the last distances, and returns the length from which on
// other matches are worth a look.
func (p *parser) repeated(at int, price uint32, limit int) int {
	n := &p.nodes[at]
	place := p.pos + at
	pos, from := place&posMask, minMatch
	lengths := &p.repLengths[pos]
	next := binary.LittleEndian.Uint16(p.block[place:])
	for rep, dist := range n.reps {
		back := place - int(dist) - 1
		if binary.LittleEndian.Uint16(p.block[back:]) != next {
			continue
		}
		length := extend(p.block, back, place, limit)
		price := price + p.repCost(rep, pos, n.state)
		p.grow(at + length)
		for l := length; l >= minMatch; l-- {
			p.offer(at+l, price+lengths[l], step{kind: uint32(rep), length: uint16(l)})
		}
		if rep == 0 {
			from = length + 1
		}
		p.behind(at, length, step{kind: uint32(rep)}, price+lengths[length], afterRep[n.state], dist)
	}
	return from
}

// behind offers a step with the literal where a match ends, and a repetition after it.
func (p *parser) behind(at, length int, s step, price uint32, state uint8, dist uint32) {
	place := p.pos + at + length
	if len(p.block)-place-1 < minMatch {
		return
	}
	back := place - int(dist) - 1
	if binary.LittleEndian.Uint16(p.block[place+1:]) != binary.LittleEndian.Uint16(p.block[back+1:]) {
		return
	}
	price += price0(p.m.match[state][place&posMask]) + matchedPrice(p.literalModel(place), p.block[place], p.block[back])
	p.tail(at, length, s, price, afterLiteral[state], dist)
}

// matched offers matches of from bytes or more.
func (p *parser) matched(at int, price uint32, limit, from int, matches []found) {
	n := &p.nodes[at]
	lengths := &p.lengths[(p.pos+at)&posMask]
	longest := min(matches[len(matches)-1].length, limit)
	if longest < from {
		return
	}
	p.grow(at + longest)
	length := from
	for _, m := range matches {
		to := min(m.length, longest)
		if to < length {
			continue
		}
		for ; length <= to; length++ {
			cost := price + lengths[length] + p.dists.of(m.dist, min(length-minMatch, slotStates-1))
			p.offer(at+length, cost, step{kind: firstDist + m.dist, length: uint16(length)})
		}
		cost := price + lengths[to] + p.dists.of(m.dist, min(to-minMatch, slotStates-1))
		p.behind(at, to, step{kind: firstDist + m.dist}, cost, afterMatch[n.state], m.dist)
	}
}

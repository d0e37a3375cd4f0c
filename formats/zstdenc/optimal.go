package zstdenc

import (
	"math"
	"slices"

	"github.com/pantavisor/pantavisor/formats/zstdcode"
)

const (
	shortBits  = 15  // of the hash of three bytes
	niceLength = 128 // a match this long is taken without looking for better
	priceScale = 256 // of one bit
	unreached  = math.MaxUint32
)

// candidate is a match that the search found at one position.
type candidate struct{ length, distance uint32 }

// node is the cheapest way to one position of a zstd block.
type node struct {
	price  uint32 // in 1/priceScale bits
	length uint32 // of the match that ends here; 0 is a literal
	off    uint32 // as in [sequence]
	lits   uint32 // literals since the last match
	reps   distances
}

// optimizer holds what the search for the cheapest sequences keeps from block to
// block.
type optimizer struct {
	short []uint32 // last places by the hash of three bytes
	found []candidate
	ends  []uint32 // where the candidates of each position end
	nodes []node
	path  []match // from the end to the beginning

	literal [256]uint32
	litLen  [64]uint32
	length  [64]uint32
	offset  [32]uint32
}

func newOptimizer() *optimizer {
	return &optimizer{
		short: make([]uint32, 1<<shortBits),
		ends:  make([]uint32, zstdcode.MaxBlock+1),
		nodes: make([]node, zstdcode.MaxBlock+1),
	}
}

// optimal finds the sequences that take the fewest bits: priced by the
// frequencies of a greedy search first, then by those of the sequences so found.
func (e *Encoder) optimal(from, to int) {
	reps := e.reps
	e.greedy(from, to)
	e.findAll(from, to)
	for _, part := range optimalParts {
		e.setPrices()
		e.seqs, e.lits, e.reps = e.seqs[:0], e.lits[:0], reps
		e.trace(from, from+e.cheapest(from, to, (to-from)*part/8))
	}
}

// optimalParts are the parts of a block, in eighths from its beginning, that are
// parsed in turn. Prices settle on the small ones at little cost; the last one is
// what is written.
var optimalParts = [...]int{2, 4, 8}

// findAll notes for each position the nearest match of each length.
func (e *Encoder) findAll(from, to int) {
	o := e.opt
	o.found = o.found[:0]
	limit, skip := to-tailMargin, from
	for pos := from; pos < to; pos++ {
		if pos > 0 && pos < limit && pos >= skip {
			before := len(o.found)
			e.candidates(pos, to)
			if n := len(o.found); n > before && o.found[n-1].length >= niceLength {
				skip = pos + int(o.found[n-1].length)
			}
		}
		o.ends[pos-from+1] = uint32(len(o.found))
	}
}

// candidates appends the matches at pos, each longer and farther than the one before.
func (e *Encoder) candidates(pos, to int) {
	c, src, o := &e.chain, e.src, e.opt
	head, prev := (*[1 << chainBits]uint32)(c.head), c.prev[:len(src)]
	short := (*[1 << shortBits]uint32)(o.short)
	for ; c.next < pos; c.next++ {
		v := load32(src, c.next)
		h := hash4(v)
		prev[c.next] = head[h]
		head[h] = uint32(c.next)
		short[hash3(v)] = uint32(c.next)
	}
	v := load32(src, pos)
	best := 2
	if at := int(short[hash3(v)]); at > 0 && (load32(src, at)^v)<<8 == 0 {
		best = same(src, at, pos, to)
		o.found = append(o.found, candidate{uint32(best), uint32(pos - at)})
	}
	if best = max(best, 3); pos+best >= to {
		return
	}
	at, end := int(head[hash4(v)]), load32(src, pos+best-3)
	for tries := c.tries; tries > 0 && at > 0 && best < niceLength; tries-- {
		if load32(src, at+best-3) == end {
			if n := same(src, at, pos, to); n > best {
				best = n
				o.found = append(o.found, candidate{uint32(n), uint32(pos - at)})
				if pos+n >= to {
					break
				}
				end = load32(src, pos+n-3)
			}
		}
		at = int(prev[at])
	}
}

func hash3(v uint32) uint32 { return v << 8 * 506832829 >> (32 - shortBits) }

// setPrices derives prices from the current sequences and literals.
func (e *Encoder) setPrices() {
	o := e.opt
	e.count()
	var literals [256]uint32
	for _, b := range e.lits {
		literals[b]++
	}
	setPrices(o.literal[:], literals[:], nil)
	setPrices(o.litLen[:], e.litLens.counts[:], litLenCodes)
	setPrices(o.length[:], e.lens.counts[:], lengthCodes)
	setPrices(o.offset[:], e.offs.counts[:32], nil)
	for s := range o.offset {
		o.offset[s] += uint32(s) * priceScale
	}
}

// setPrices gives each symbol the bits of its frequency and those that its code adds.
func setPrices(prices, counts []uint32, codes []zstdcode.Range) {
	total := uint32(0)
	for _, n := range counts {
		total += 2*n + 1
	}
	for s, n := range counts {
		prices[s] = uint32(priceScale * math.Log2(float64(total)/float64(2*n+1)))
		if s < len(codes) {
			prices[s] += uint32(codes[s].Bits) * priceScale
		}
	}
}

// cheapest fills in the nodes of a block until it is at least at stop, and returns
// how far it came.
func (e *Encoder) cheapest(from, to, stop int) int {
	o := e.opt
	nodes := o.nodes[:to-from+1]
	for i := range nodes {
		nodes[i].price = unreached
	}
	nodes[0] = node{reps: e.reps}
	i := 0
	for i < stop {
		at := &nodes[i]
		if i > 0 {
			at.arrive(nodes[:i])
		}
		o.addLiteral(at, &nodes[i+1], e.src[from+i])
		i += max(1, e.addRepeats(nodes, i, from, to), o.addFound(nodes, i))
	}
	return i
}

// arrive sets the distances after the last step.
func (at *node) arrive(before []node) {
	if at.length == 0 {
		at.reps = before[len(before)-1].reps
		return
	}
	prev := &before[len(before)-int(at.length)]
	at.reps = nextReps(prev.reps, at.off, prev.lits > 0)
}

// nextReps returns the last distances after a match with or without literals before it (RFC 8878, 3.1.1.5).
func nextReps(r distances, off uint32, literals bool) distances {
	if off > 3 {
		return distances{off - 3, r[0], r[1]}
	}
	if !literals {
		off++
	}
	switch off {
	case 1:
		return r
	case 2:
		return distances{r[1], r[0], r[2]}
	case 3:
		return distances{r[2], r[0], r[1]}
	}
	return distances{r[0] - 1, r[0], r[1]}
}

func (o *optimizer) addLiteral(at, next *node, b byte) {
	price := at.price + o.literal[b] + o.litLen[litLenSymbol(at.lits+1)&63] - o.litLen[litLenSymbol(at.lits)&63]
	if price < next.price {
		next.price, next.length, next.lits = price, 0, at.lits+1
	}
}

// addRepeats adds the matches at the last distances. Like addFound it returns the
// length of a match that needs no comparison with others, otherwise 0.
func (e *Encoder) addRepeats(nodes []node, i, from, to int) int {
	o, at, pos := e.opt, &nodes[i], from+i
	if pos+4 > len(e.src) {
		return 0
	}
	last := at.reps // what the offsets 1, 2 and 3 mean here
	if at.lits == 0 {
		last = distances{last[1], last[2], last[0] - 1}
	}
	v := load32(e.src, pos)
	for code, distance := range last {
		if distance-1 >= uint32(pos) || (load32(e.src, pos-int(distance))^v)<<8 != 0 {
			continue // also for the distance 0, which is not one
		}
		n := same(e.src, pos-int(distance), pos, to)
		if n >= niceLength {
			o.addMatch(nodes, i, n, n, uint32(code+1))
			return n
		}
		o.addMatch(nodes, i, 3, n, uint32(code+1))
	}
	return 0
}

// addFound adds the matches that the search found, each for the lengths that a
// nearer one does not reach.
func (o *optimizer) addFound(nodes []node, i int) int {
	shortest := 3
	for _, c := range o.found[o.ends[i]:o.ends[i+1]] {
		n := int(c.length)
		if n >= niceLength {
			o.addMatch(nodes, i, n, n, c.distance+3)
			return n
		}
		o.addMatch(nodes, i, shortest, n, c.distance+3)
		shortest = n + 1
	}
	return 0
}

// addMatch adds a match and what it is when it is cut, down to the shortest length.
// It stops at the first length that gains nothing: shorter ones rarely do.
func (o *optimizer) addMatch(nodes []node, i, shortest, longest int, off uint32) {
	base := nodes[i].price + o.offset[offsetSymbol(off)&31] + o.litLen[0]
	for n := longest; n >= shortest; n-- {
		price := base + o.length[lengthSymbol(uint32(n))&63]
		to := &nodes[i+n]
		if price >= to.price {
			return
		}
		to.price, to.length, to.off, to.lits = price, uint32(n), off, 0
	}
}

// trace turns the cheapest way to a position into sequences and literals.
func (e *Encoder) trace(from, to int) {
	o := e.opt
	o.path = o.path[:0]
	for i := to - from; i > 0; {
		step := &o.nodes[i]
		if step.length == 0 {
			i -= int(step.lits)
			continue
		}
		i -= int(step.length)
		o.path = append(o.path, match{from + i, int(step.length), step.off})
	}
	anchor := from
	for _, m := range slices.Backward(o.path) {
		e.reps = nextReps(e.reps, m.off, m.pos > anchor)
		e.emit(anchor, m.pos, m.length, m.off)
		anchor = m.pos + m.length
	}
	e.lits = append(e.lits, e.src[anchor:to]...)
}

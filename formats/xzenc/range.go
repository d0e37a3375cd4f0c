package xzenc

import "math/bits"

const (
	probBits  = 11
	probStart = 1 << (probBits - 1)
	moveBits  = 5
	topValue  = 1 << 24
)

// rangeCoder appends arithmetic code to out.
type rangeCoder struct {
	low       uint64
	rng       uint32
	cache     byte
	cacheSize int
	out       []byte
	base      int
}

func (r *rangeCoder) start(dst []byte) {
	*r = rangeCoder{rng: 0xffffffff, cacheSize: 1, out: dst, base: len(dst)}
}

// pending is how many bytes the code has so far, finished.
func (r *rangeCoder) pending() int { return len(r.out) - r.base + r.cacheSize + 4 }

func (r *rangeCoder) finish() []byte {
	for range 5 {
		r.shift()
	}
	return r.out
}

// shift moves the highest byte out, once no carry can reach it any more.
func (r *rangeCoder) shift() {
	if uint32(r.low) < 0xff000000 || r.low>>32 != 0 {
		carry := byte(r.low >> 32)
		for ; r.cacheSize > 0; r.cacheSize-- {
			r.out = append(r.out, r.cache+carry)
			r.cache = 0xff
		}
		r.cache = byte(r.low >> 24)
	}
	r.cacheSize++
	r.low = r.low & 0x00ffffff << 8
}

// narrow returns what a bit adds to low, the new range and the bit's probability
// after it learnt. It has no branch on the bit, which is hard to foresee.
func narrow(rng uint32, prob uint16, bit uint32) (add, newRange uint32, learnt uint16) {
	p, one := uint32(prob), -bit
	bound := rng >> probBits * p
	// The probability moves by a 32nd of its way to 1 for a zero and to 0 for a one.
	target := 1<<probBits - (1<<probBits-(1<<moveBits-1))&one
	return bound & one, bound + (rng-2*bound)&one, prob + uint16(int32(target-p)>>moveBits)
}

func (r *rangeCoder) bit(prob *uint16, bit uint32) {
	var add uint32
	add, r.rng, *prob = narrow(r.rng, *prob, bit)
	r.low += uint64(add)
	if r.rng < topValue {
		r.rng <<= 8
		r.shift()
	}
}

// tree encodes a value from its highest bit on.
func (r *rangeCoder) tree(probs []uint16, n int, value uint32) {
	at, rng := uint32(1), r.rng
	value <<= 32 - uint(n)
	for range n {
		var add uint32
		b := value >> 31
		add, rng, probs[at] = narrow(rng, probs[at], b)
		r.low += uint64(add)
		if rng < topValue {
			rng <<= 8
			r.shift()
		}
		at, value = at<<1|b, value<<1
	}
	r.rng = rng
}

// reverse encodes a value from its lowest bit on.
func (r *rangeCoder) reverse(probs []uint16, n int, value uint32) {
	r.tree(probs, n, bits.Reverse32(value)>>(32-uint(n)))
}

// direct encodes bits that are as often set as not.
func (r *rangeCoder) direct(value uint32, bits int) {
	for i := bits - 1; i >= 0; i-- {
		r.rng >>= 1
		if value>>uint(i)&1 == 1 {
			r.low += uint64(r.rng)
		}
		if r.rng < topValue {
			r.rng <<= 8
			r.shift()
		}
	}
}

func fill(p []uint16) {
	for i := range p {
		p[i] = probStart
	}
}

func (l *lengths) reset() {
	l.choice, l.choice2 = probStart, probStart
	for i := range l.low {
		fill(l.low[i][:])
		fill(l.mid[i][:])
	}
	fill(l.high[:])
}

func (m *model) reset() {
	for s := range states {
		fill(m.match[s][:])
		fill(m.rep0Long[s][:])
	}
	for _, p := range [][]uint16{m.rep[:], m.rep0[:], m.rep1[:], m.rep2[:], m.special[:], m.align[:]} {
		fill(p)
	}
	for i := range m.literal {
		fill(m.literal[i][:])
	}
	for i := range m.slot {
		fill(m.slot[i][:])
	}
	m.matchLen.reset()
	m.repLen.reset()
}

package xzenc

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

func (r *rangeCoder) bit(prob *uint16, bit uint32) {
	p := uint32(*prob)
	bound := r.rng >> probBits * p
	if bit == 0 {
		r.rng = bound
		*prob = uint16(p + (1<<probBits-p)>>moveBits)
	} else {
		r.low += uint64(bound)
		r.rng -= bound
		*prob = uint16(p - p>>moveBits)
	}
	if r.rng < topValue {
		r.rng <<= 8
		r.shift()
	}
}

// tree encodes a value from its highest bit on.
func (r *rangeCoder) tree(probs []uint16, bits int, value uint32) {
	at := uint32(1)
	for i := bits - 1; i >= 0; i-- {
		b := value >> uint(i) & 1
		r.bit(&probs[at], b)
		at = at<<1 | b
	}
}

// reverse encodes a value from its lowest bit on.
func (r *rangeCoder) reverse(probs []uint16, bits int, value uint32) {
	at := uint32(1)
	for range bits {
		b := value & 1
		value >>= 1
		r.bit(&probs[at], b)
		at = at<<1 | b
	}
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

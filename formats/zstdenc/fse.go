package zstdenc

import (
	"encoding/binary"
	"math"
	"math/bits"

	"github.com/pantavisor/pantavisor/formats/zstdcode"
)

// bitWriter appends bits from the lowest on.
type bitWriter struct {
	acc uint64
	n   uint
	out []byte
}

// add appends the lower n bits of v, at most 32, the rest of which are zero.
func (w *bitWriter) add(v uint32, n uint) {
	w.acc |= uint64(v) << w.n
	w.n += n
	if w.n >= 32 {
		w.out = binary.LittleEndian.AppendUint32(w.out, uint32(w.acc))
		w.acc >>= 32
		w.n -= 32
	}
}

// finish appends what is left, filled up with zeros.
func (w *bitWriter) finish() []byte {
	for ; w.n > 0; w.n -= min(w.n, 8) {
		w.out = append(w.out, byte(w.acc))
		w.acc >>= 8
	}
	w.acc = 0
	return w.out
}

// coder codes the symbols of one of the three streams of a block with a finite
// state machine (RFC 8878, 4.1).
type coder struct {
	predefined table
	own        table
	maxLog     int
	counts     [64]uint32
}

// table is a state machine: norm are the frequencies that it is made for, which
// add up to 1<<log; -1 is a frequency below one.
type table struct {
	log    int
	norm   []int16
	states [1 << maxTableLog]uint16
	moves  [64]move
}

// move is what a symbol does with a state.
type move struct {
	bits uint32 // state+bits, shifted right by 16, is the number of bits to write
	find int32  // from the remaining state to the place of the next one
}

// choose makes the table for n symbols, appends its description to dst and returns
// its mode.
func (c *coder) choose(dst []byte, n int) ([]byte, *table, byte) {
	used, last := 0, 0
	for s, count := range c.counts {
		if count > 0 {
			used, last = used+1, s
		}
	}
	if used == 1 {
		c.own.single(last)
		return append(dst, byte(last)), &c.own, zstdcode.ModeRLE
	}
	c.own.normalize(c.counts[:last+1], n, min(c.maxLog, bestLog(n, last)))
	described := c.own.describe(dst)
	own := c.own.cost(c.counts[:last+1]) + float64(8*(len(described)-len(dst)))
	if last < len(c.predefined.norm) && c.predefined.cost(c.counts[:last+1]) <= own {
		return dst, &c.predefined, zstdcode.ModePredefined
	}
	c.own.build()
	return described, &c.own, zstdcode.ModeFSE
}

// bestLog returns the size of a table for n symbols up to last, as a power of two.
func bestLog(n, last int) int {
	log := bits.Len(uint(n-1)) - 3
	return max(log, min(bits.Len(uint(n)), bits.Len(uint(last))+1), 5)
}

// single makes the machine for one symbol, which needs no bits.
func (t *table) single(symbol int) {
	t.log, t.states[0], t.moves[symbol] = 0, 0, move{}
}

// normalize scales counts of n symbols to 1<<log.
func (t *table) normalize(counts []uint32, n, log int) {
	t.log, t.norm = log, t.norm[:0]
	rest, largest := 1<<log, 0
	for s, count := range counts {
		share := (int(count)<<(log+1) + n) / (2 * n)
		if count > 0 {
			share = max(share, 1)
		}
		t.norm = append(t.norm, int16(share))
		rest -= share
		if share > int(t.norm[largest]) {
			largest = s
		}
	}
	for rest < 0 && int(t.norm[largest])+rest < int(t.norm[largest])/2 {
		t.norm[largest]--
		rest++
		for s, share := range t.norm {
			if share > t.norm[largest] {
				largest = s
			}
		}
	}
	t.norm[largest] += int16(rest)
}

// cost returns how many bits symbols of such counts take.
func (t *table) cost(counts []uint32) float64 {
	sum := 0.0
	for s, count := range counts {
		if count > 0 {
			sum += float64(count) * (float64(t.log) - log2[max(t.norm[s], 1)])
		}
	}
	return sum
}

// log2 are the logarithms of the frequencies in a table.
var log2 = func() (l [1<<maxTableLog + 1]float64) {
	for i := range l {
		l[i] = math.Log2(float64(i))
	}
	return l
}()

const maxTableLog = zstdcode.MaxLiteralLengthLog

// describe appends the frequencies (RFC 8878, 4.1.1).
func (t *table) describe(dst []byte) []byte {
	w := bitWriter{out: dst}
	w.add(uint32(t.log-5), 4)
	remaining, threshold, width := 1<<t.log+1, 1<<t.log, uint(t.log+1)
	for s := 0; s < len(t.norm) && remaining > 1; {
		value := int(t.norm[s])
		s++
		most := 2*threshold - 1 - remaining
		remaining -= max(value, -value)
		code := value + 1
		if code >= threshold {
			code += most
		}
		n := width
		if code < most {
			n--
		}
		w.add(uint32(code), n)
		for remaining < threshold && threshold > 1 {
			width--
			threshold >>= 1
		}
		if value == 0 {
			s = t.describeZeros(&w, s)
		}
	}
	return w.finish()
}

// describeZeros writes how many zeros follow one and returns the symbol behind them.
func (t *table) describeZeros(w *bitWriter, s int) int {
	zeros := 0
	for s+zeros < len(t.norm) && t.norm[s+zeros] == 0 {
		zeros++
	}
	for n := zeros; ; n -= 3 {
		if n < 3 {
			w.add(uint32(n), 2)
			return s + zeros
		}
		w.add(3, 2)
	}
}

// build makes the machine from the frequencies.
func (t *table) build() {
	size := 1 << t.log
	var spread [1 << maxTableLog]byte
	zstdcode.Spread(spread[:size], t.norm)
	var place [65]int
	for s, n := range t.norm {
		place[s+1] = place[s] + max(int(n), -int(n))
	}
	for i, s := range spread[:size] {
		t.states[place[s]] = uint16(size + i)
		place[s]++
	}
	total := 0
	for s, n := range t.norm {
		switch {
		case n == 0:
		case n == 1 || n == -1:
			t.moves[s] = move{uint32(t.log<<16 - size), int32(total - 1)}
			total++
		default:
			out := t.log + 1 - bits.Len(uint(n-1))
			t.moves[s] = move{uint32(out<<16 - int(n)<<out), int32(total - int(n))}
			total += int(n)
		}
	}
}

// start returns the state that begins with a symbol.
func (t *table) start(symbol byte) uint32 {
	if t.log == 0 {
		return 0
	}
	m := t.moves[symbol&63]
	n := (m.bits + 1<<15) >> 16
	return uint32(t.states[int32((n<<16-m.bits)>>n)+m.find])
}

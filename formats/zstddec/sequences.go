package zstddec

import (
	"encoding/binary"

	"github.com/pantavisor/pantavisor/formats/zstdcode"
)

// codes is one of the three streams of codes of a block.
type codes struct {
	log, most  int // of the predefined table and of the largest one
	predefined []int16
	ranges     []zstdcode.Range // nil: those of offsets, which are the powers of two

	table []state // of the block before; nil: none
	width int     // bits that choose the first state
	state state
}

// maxOffsetCode is the largest code of an offset that is read: larger ones are of windows of more
// than a GiB.
const maxOffsetCode = 30

// choose takes the table of a block in a mode (3.1.1.3.2.1) and returns the bytes of its
// description. in has slack bytes behind the first n.
func (c *codes) choose(mode byte, in []byte, n int) (used int, err error) {
	symbols := len(c.ranges)
	if c.ranges == nil {
		symbols = maxOffsetCode + 1
	}
	switch mode {
	case zstdcode.ModePredefined:
		c.table, c.width = build(c.log, c.predefined), c.log
	case zstdcode.ModeRLE:
		if n < 1 || int(in[0]) >= symbols {
			return 0, errDamaged
		}
		c.table, c.width, used = []state{{symbol: in[0]}}, 0, 1
	case zstdcode.ModeFSE:
		var list []int16
		if list, c.width, used, err = counts(in, n, c.most, symbols); err != nil {
			return 0, err
		}
		c.table = build(c.width, list)
	}
	if c.table == nil {
		return 0, errDamaged
	}
	return used, nil
}

func (c *codes) next(b *backward) {
	c.state = c.table[int(c.state.base)+int(b.take(int(c.state.bits)))]
}

// value returns the value of the state and the bits that belong to it.
func (c *codes) value(b *backward) int {
	s := c.state.symbol
	if c.ranges == nil {
		return 1<<s + int(b.take(int(s)))
	}
	r := c.ranges[s]
	return int(r.Base) + int(b.take(int(r.Bits)))
}

// compressed unpacks a compressed block (3.1.1.3) of packed.
func (z *Reader) compressed(block []byte) error {
	clear(z.packed[len(block) : len(block)+slack])
	if len(block) < 2 {
		return errDamaged
	}
	used, err := z.readLiterals(block)
	if err != nil {
		return err
	}
	in := block[used:]
	count, used := sequences(in)
	if used > len(in) {
		return errDamaged
	}
	in = in[used:]
	if count == 0 {
		if len(in) > 0 {
			return errDamaged
		}
		z.window.write(z.literals)
		return nil
	}
	if len(in) < 1 || in[0]&3 != 0 {
		return errDamaged
	}
	modes := in[0]
	in = in[1:]
	for i := range z.codes {
		used, err := z.codes[i].choose(modes>>(6-2*i)&3, in[:len(in)+slack], len(in))
		if err != nil {
			return err
		}
		in = in[used:]
	}
	b, err := newBackward(in[:len(in)+slack], len(in))
	if err != nil {
		return err
	}
	return z.execute(&b, count)
}

// sequences reads the number of sequences (3.1.1.3.2.1) and returns the bytes that it has.
func sequences(in []byte) (count, used int) {
	var b [slack]byte
	copy(b[:], in)
	switch n := int(b[0]); {
	case n < 128:
		return n, 1
	case n < 255:
		return (n-128)<<8 + int(b[1]), 2
	}
	return int(binary.LittleEndian.Uint16(b[1:])) + 0x7f00, 3
}

// execute does what the sequences of a block say (3.1.1.4).
func (z *Reader) execute(b *backward, count int) error {
	lits, offs, lens := &z.codes[0], &z.codes[1], &z.codes[2]
	for _, c := range []*codes{lits, offs, lens} {
		c.state = c.table[b.take(c.width)]
	}
	literals, made := z.literals, z.window.made
	for {
		off, length, lit := offs.value(b), lens.value(b), lits.value(b)
		if lit > len(literals) || z.window.made-made+int64(lit+length) > int64(z.block) {
			return errDamaged
		}
		z.window.write(literals[:lit])
		literals = literals[lit:]
		if !z.window.match(z.distance(off, lit), length) {
			return errDamaged
		}
		if count--; count == 0 {
			break
		}
		lits.next(b)
		lens.next(b)
		offs.next(b)
		if b.left < 0 {
			break
		}
	}
	if b.left != 0 {
		return errDamaged
	}
	if z.window.made-made+int64(len(literals)) > int64(z.block) {
		return errDamaged
	}
	z.window.write(literals)
	return nil
}

// distance returns the distance that an offset means behind so many literals (3.1.1.5), and
// remembers it. 0 is an offset that may not be.
func (z *Reader) distance(off, literals int) int {
	const repeats = 3
	r := &z.reps
	if off > repeats {
		*r = [3]int{off - repeats, r[0], r[1]}
		return r[0]
	}
	if literals == 0 {
		off++
	}
	switch off {
	case 1:
	case 2:
		r[0], r[1] = r[1], r[0]
	case repeats:
		*r = [3]int{r[2], r[0], r[1]}
	default:
		*r = [3]int{r[0] - 1, r[0], r[1]}
	}
	return r[0]
}

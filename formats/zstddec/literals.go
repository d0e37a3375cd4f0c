package zstddec

import (
	"encoding/binary"
	"math/bits"

	"github.com/pantavisor/pantavisor/formats/zstdcode"
)

// huffman is the codes of literals: a table of what the next log bits stand for.
type huffman struct {
	log   int // 0: none
	table [1 << maxHuffmanLog]letter
}

type letter struct{ symbol, bits byte }

const (
	maxHuffmanLog = 11
	maxWeightLog  = 6 // of the table of weights
)

// readLiterals reads a section of literals (3.1.1.3.1) into literals and returns how many bytes of
// the block it has. The block has slack bytes behind it.
func (z *Reader) readLiterals(block []byte) (int, error) {
	kind, format := block[0]&3, int(block[0]>>2&3)
	head := binary.LittleEndian.Uint64(block[:slack])
	used, size, packed := 1, int(head>>3&(1<<5-1)), 1
	switch {
	case kind >= zstdcode.LiteralsCompressed:
		used = max(3, 2+format)
		width := 4*used - 2
		size, packed = int(head>>4&(1<<width-1)), int(head>>(4+width)&(1<<width-1))
	case format&1 != 0:
		used = 2 + format>>1
		size = int(head >> 4 & (1<<(8*used-4) - 1))
	}
	if kind == zstdcode.LiteralsRaw {
		packed = size
	}
	if packed > len(block)-used || size > z.block {
		return 0, errDamaged
	}
	if cap(z.literals) < size {
		z.literals = make([]byte, z.block)
	}
	z.literals = z.literals[:size]
	in := block[used : used+packed+slack]
	used += packed
	switch kind {
	case zstdcode.LiteralsRaw:
		copy(z.literals, in)
		return used, nil
	case zstdcode.LiteralsRLE:
		for i := range z.literals {
			z.literals[i] = in[0]
		}
		return used, nil
	case zstdcode.LiteralsCompressed:
		n, err := z.huffman.read(in, packed)
		if err != nil {
			return 0, err
		}
		in = in[n:]
	}
	if z.huffman.log == 0 {
		return 0, errDamaged
	}
	return used, z.huffman.streams(z.literals, in, format != 0)
}

// streams decodes one stream or four (3.1.1.3.1.6). in has slack bytes behind the data.
func (h *huffman) streams(out, in []byte, four bool) error {
	if !four {
		return h.stream(out, in)
	}
	const table = 6 // bytes with the sizes of three
	each := (len(out) + 3) / 4
	if len(in) < table+slack || 3*each > len(out) {
		return errDamaged
	}
	sizes := binary.LittleEndian.Uint64(in)
	in = in[table:]
	for range 3 {
		n := int(sizes & (1<<16 - 1))
		sizes >>= 16
		if n > len(in)-slack {
			return errDamaged
		}
		if err := h.stream(out[:each], in[:n+slack]); err != nil {
			return err
		}
		out, in = out[each:], in[n:]
	}
	return h.stream(out, in)
}

// stream decodes the letters of one stream, all of whose bits must be used.
func (h *huffman) stream(out, in []byte) error {
	b, err := newBackward(in, len(in)-slack)
	if err != nil {
		return err
	}
	for i := range out {
		l := h.table[b.peek(h.log)&(1<<maxHuffmanLog-1)]
		b.left -= int(l.bits)
		out[i] = l.symbol
	}
	if b.left != 0 {
		return errDamaged
	}
	return nil
}

// read reads the description of the codes (4.2.1) and returns the number of its bytes. in has
// slack bytes behind the first n.
func (h *huffman) read(in []byte, n int) (int, error) {
	h.log = 0
	if n < 1 {
		return 0, errDamaged
	}
	var weights [maxSymbols]byte
	size := int(in[0])
	count := size - 127
	if count > 0 {
		size = (count + 1) / 2
	}
	if in = in[1:]; size > n-1 {
		return 0, errDamaged
	}
	if count <= 0 {
		var err error
		if count, err = readWeights(weights[:maxSymbols-1], in[:size+slack], size); err != nil {
			return 0, err
		}
	} else {
		for i := range count {
			weights[i] = in[i/2] >> (4 * (1 - i&1)) & 15
		}
	}
	return 1 + size, h.build(weights[:count+1])
}

// build makes the table of the weights, of which the last is not known yet (4.2.1.3).
func (h *huffman) build(weights []byte) error {
	var ranks [maxHuffmanLog + 2]int
	sum := 0
	for _, w := range weights {
		if w > maxHuffmanLog {
			return errDamaged
		}
		ranks[w]++
		sum += 1 << w >> 1
	}
	log := bits.Len(uint(sum))
	rest := 1<<log - sum
	if sum == 0 || log > maxHuffmanLog || rest&(rest-1) != 0 {
		return errDamaged
	}
	last := bits.Len(uint(rest))
	weights[len(weights)-1] = byte(last)
	ranks[last]++
	if ranks[1] < 2 || ranks[1]&1 != 0 {
		return errDamaged
	}
	at := 0
	for w := 1; w <= log; w++ {
		n := ranks[w]
		ranks[w] = at
		at += n << w >> 1
	}
	for s, w := range weights {
		if w == 0 {
			continue
		}
		to := h.table[ranks[w]:][:1<<w>>1]
		ranks[w] += len(to)
		for i := range to {
			to[i] = letter{byte(s), byte(log + 1 - int(w))}
		}
	}
	h.log = log
	return nil
}

// readWeights decodes weights (4.2.1.2): two states take turns until the bits end. in has slack
// bytes behind the first n.
func readWeights(weights, in []byte, n int) (int, error) {
	list, log, used, err := counts(in, n, maxWeightLog, maxSymbols)
	if err != nil {
		return 0, err
	}
	table := build(log, list)
	b, err := newBackward(in[used:], n-used)
	if err != nil {
		return 0, err
	}
	one, two := table[b.take(log)], table[b.take(log)]
	if b.left < 0 {
		return 0, errDamaged
	}
	for i := 0; i+1 < len(weights); i++ {
		weights[i] = one.symbol
		if b.left < int(one.bits) {
			weights[i+1] = two.symbol
			return i + 2, nil
		}
		one, two = two, table[int(one.base)+int(b.take(int(one.bits)))]
	}
	return 0, errDamaged
}

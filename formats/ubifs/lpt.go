package ubifs

import (
	"bytes"
	"fmt"
	"math/bits"
)

// Numbers of the tree of the blocks' properties.
const (
	lptFanout = 4
	saved     = 256 // blocks in the table of blocks worth a look
	crcBits   = 16
	typeBits  = 4

	leafType  = 0
	innerType = 1
	tableType = 2
	saveType  = 3
)

// geometry is the layout of a file system, which follows from its options.
type geometry struct {
	journal              int64
	logBlocks, lptBlocks int
	lptFirst, mainFirst  int
	big                  bool
	height               int

	spaceBits, lptBlockBits, offsetBits, lptSpaceBits, numberBits, blockBits int
	leafSize, innerSize, tableSize, saveSize                                 int
}

// layout computes the geometry for a file system of the largest size.
func layout(o Options) (geometry, error) {
	var g geometry
	if o.Page < 8 || o.Page&(o.Page-1) != 0 || o.Block%o.Page != 0 || o.Block%8 != 0 || o.Block < 15*1024 || o.Block > 2<<20 || o.MaxBlocks < 17 {
		return g, fmt.Errorf("%w with %d erase blocks of %d bytes and pages of %d", errGeometry, o.MaxBlocks, o.Block, o.Page)
	}
	rest := o.MaxBlocks - superBlocks - masterBlocks - orphanBlocks
	g.journal = max(min(int64((rest-minLog-minLPT)/8)*int64(o.Block), 8<<20), 4*int64(o.Block))
	buds := (g.journal + int64(o.Block) - 1) / int64(o.Block)
	size := int64(align(refSize, o.Page))*buds + int64(align(startSize+refSize*2, o.Page))
	g.logBlocks = int((size+int64(o.Block)-1)/int64(o.Block)) + 3
	g.lptBlocks = minLPT
	main := rest - g.logBlocks
	for range 64 {
		if main <= g.lptBlocks {
			break
		}
		lpt := g.size(o, main-g.lptBlocks)
		if lpt > int64(o.Block) && !g.big {
			g.big = true
			lpt = g.size(o, main-g.lptBlocks)
		}
		needed := int((lpt*4 + int64(o.Block) - 1) / int64(o.Block))
		if needed <= g.lptBlocks {
			g.lptFirst = logFirst + g.logBlocks
			g.mainFirst = g.lptFirst + g.lptBlocks + orphanBlocks
			return g, nil
		}
		g.lptBlocks = needed
	}
	return g, fmt.Errorf("%w in %d erase blocks of %d bytes", errGeometry, o.MaxBlocks, o.Block)
}

// size computes the widths of the fields and returns the space that the tree takes for a main
// area of so many blocks.
func (g *geometry) size(o Options, main int) int64 {
	leaves := (main + lptFanout - 1) / lptFanout
	inner := 0
	for n := leaves; n > 1 || inner == 0; {
		n = (n + lptFanout - 1) / lptFanout
		inner += n
	}
	g.height = 1
	for n := lptFanout; n < leaves; n *= lptFanout {
		g.height++
	}
	g.spaceBits = bits.Len(uint(o.Block)) - 3
	g.lptBlockBits = bits.Len(uint(g.lptBlocks))
	g.offsetBits = bits.Len(uint(o.Block - 1))
	g.lptSpaceBits = bits.Len(uint(o.Block))
	g.numberBits = bits.Len(uint((o.MaxBlocks+lptFanout-1)/lptFanout - 1))
	g.blockBits = bits.Len(uint(o.MaxBlocks - 1))
	head := crcBits + typeBits
	if g.big {
		head += g.numberBits
	}
	g.leafSize = (head + (g.spaceBits*2+1)*lptFanout + 7) / 8
	g.innerSize = (head + (g.lptBlockBits+g.offsetBits)*lptFanout + 7) / 8
	g.tableSize = (crcBits + typeBits + g.lptBlocks*g.lptSpaceBits*2 + 7) / 8
	g.saveSize = (crcBits + typeBits + g.blockBits*saved + 7) / 8

	total := int64(leaves)*int64(g.leafSize) + int64(inner)*int64(g.innerSize) + int64(g.tableSize) + int64(g.saveSize)
	waste := int64(max(g.leafSize, g.innerSize))
	all := waste
	left := total + waste
	for left > int64(o.Block) {
		left += waste - int64(o.Block)
		all += waste
	}
	all += int64(align(int(left), o.Page)) - left
	return total + all
}

// isIndex is the flag of a block with nodes of the index.
const isIndex = 1

// properties are those of a block: bytes that are erased, and that hold nothing.
type properties struct{ free, dirty, flags int }

// sums are the totals of the properties, and where the index ends.
type sums struct {
	free, dirty, used, dead, dark, indexSize int64
	empty, indexBlocks                       int
	gcBlock, indexBlock, indexOffset         int
}

// note notes the properties of the next block, which ends at an offset.
func (w *writer) note(end, flags int) {
	p := properties{free: w.Block - align(end, w.Page), flags: flags}
	p.dirty = w.Block - p.free - align(end, 8)
	w.used = append(w.used, p)
	s := &w.sums
	s.free += int64(p.free)
	s.dirty += int64(p.dirty)
	if flags == isIndex {
		s.indexBlocks++
		return
	}
	space := p.free + p.dirty
	if space < align(minWrite, w.Page) {
		s.dead += int64(space)
	} else {
		s.dark += int64(w.darkSpace(space))
	}
	s.used += int64(w.Block - space)
}

// darkSpace is how much of a block's space may not be usable for the nodes that come.
func (w *writer) darkSpace(space int) int {
	mark := align(maxNode, w.Page)
	switch {
	case space < mark:
		return space
	case space-mark < minWrite:
		return space - minWrite
	}
	return mark
}

// position is a place in the blocks of the tree.
type position struct{ block, offset int }

// lptPlaces is where the parts of the tree are.
type lptPlaces struct{ root, head, table, save position }

// lpt is the tree under construction.
type lpt struct {
	*writer
	at   position
	data []byte
	own  []properties // of its blocks
}

// writeProperties writes the tree: leaves, then the levels above them up to the root.
func (w *writer) writeProperties() (lptPlaces, error) {
	t := &lpt{writer: w, at: position{w.geometry.lptFirst, 0}, own: make([]properties, w.geometry.lptBlocks)}
	for i := range t.own {
		t.own[i].free = w.Block
	}
	var p lptPlaces
	below, err := t.leaves()
	if err != nil {
		return p, err
	}
	for row := w.geometry.height - 1; row >= 0; row-- {
		if below, err = t.level(below, row); err != nil {
			return p, err
		}
	}
	p.root = below[0]
	if w.geometry.big {
		if p.save, err = t.add(t.saveTable()); err != nil {
			return p, err
		}
	}
	p.table, err = t.last()
	p.head = position{t.at.block, align(len(t.data), w.Page)}
	return p, err
}

// add appends a node and returns where it is.
func (t *lpt) add(node []byte) (position, error) {
	if err := t.reserve(len(node)); err != nil {
		return position{}, err
	}
	at := position{t.at.block, len(t.data)}
	t.data = append(t.data, node...)
	return at, nil
}

// reserve goes to the next block if this one is too full.
func (t *lpt) reserve(size int) error {
	if len(t.data)+size <= t.Block {
		return nil
	}
	t.measure()
	if err := t.emit(); err != nil {
		return err
	}
	t.at.block, t.data = t.at.block+1, nil
	return nil
}

// measure notes the properties of the current block.
func (t *lpt) measure() {
	end := align(len(t.data), t.Page)
	t.own[t.at.block-t.geometry.lptFirst] = properties{free: t.Block - end, dirty: end - len(t.data)}
}

func (t *lpt) emit() error {
	whole := append(bytes.Clone(t.data), bytes.Repeat([]byte{0xFF}, t.Block-len(t.data))...)
	_, err := t.out.WriteAt(whole, int64(t.at.block)*int64(t.Block))
	return err
}

func (t *lpt) leaves() ([]position, error) {
	var out []position
	for i := 0; i < len(t.used); i += lptFanout {
		f := t.fields(leafType, i/lptFanout)
		for j := i; j < i+lptFanout; j++ {
			p := properties{free: t.Block}
			if j < len(t.used) {
				p = t.used[j]
			}
			f.put(p.free>>3, t.geometry.spaceBits)
			f.put(p.dirty>>3, t.geometry.spaceBits)
			f.put(p.flags, 1)
		}
		at, err := t.add(f.node(t.geometry.leafSize))
		if err != nil {
			return nil, err
		}
		out = append(out, at)
	}
	return out, nil
}

// level writes the nodes above others.
func (t *lpt) level(below []position, row int) ([]position, error) {
	var out []position
	for i := 0; i < len(below) || i == 0; i += lptFanout {
		f := t.fields(innerType, number(row, i/lptFanout))
		for j := i; j < i+lptFanout; j++ {
			p := position{t.geometry.lptFirst + t.geometry.lptBlocks, 0} // none
			if j < len(below) {
				p = below[j]
			}
			f.put(p.block-t.geometry.lptFirst, t.geometry.lptBlockBits)
			f.put(p.offset, t.geometry.offsetBits)
		}
		at, err := t.add(f.node(t.geometry.innerSize))
		if err != nil {
			return nil, err
		}
		out = append(out, at)
	}
	return out, nil
}

// number is that of an inner node: the way to it from the root.
func number(row, column int) int {
	n := 1
	for ; row > 0; row-- {
		n = n*lptFanout | column%lptFanout
		column /= lptFanout
	}
	return n
}

func (t *lpt) saveTable() []byte {
	f := t.fields(saveType, -1)
	for i := range saved {
		f.put(t.geometry.mainFirst+i, t.geometry.blockBits)
	}
	return f.node(t.geometry.saveSize)
}

// last writes the table of the tree's own blocks, which describes the block that it is in.
func (t *lpt) last() (position, error) {
	size := t.geometry.tableSize
	if err := t.reserve(size); err != nil {
		return position{}, err
	}
	at := position{t.at.block, len(t.data)}
	t.data = append(t.data, make([]byte, size)...)
	t.measure()
	f := t.fields(tableType, -1)
	for _, p := range t.own {
		f.put(p.free, t.geometry.lptSpaceBits)
		f.put(p.dirty, t.geometry.lptSpaceBits)
	}
	copy(t.data[at.offset:], f.node(size))
	return at, t.emit()
}

// fields packs numbers of some bits, the lowest first.
type fields struct {
	bytes []byte
	bit   int
}

// fields returns those of a node: its type and, in a big tree, its number if it has one.
func (t *lpt) fields(typ, number int) *fields {
	f := &fields{}
	f.put(typ, typeBits)
	if t.geometry.big && number >= 0 {
		f.put(number, t.geometry.numberBits)
	}
	return f
}

func (f *fields) put(value, width int) {
	for i := range width {
		if f.bit%8 == 0 {
			f.bytes = append(f.bytes, 0)
		}
		f.bytes[f.bit/8] |= byte(value>>i&1) << (f.bit % 8)
		f.bit++
	}
}

// node returns the node of the given size: a checksum, then the fields.
func (f *fields) node(size int) []byte {
	out := make([]byte, size)
	copy(out[2:], f.bytes)
	le.PutUint16(out, crc16(out[2:]))
	return out
}

// crc16 is that of the kernel's lib/crc16.c, from 0xFFFF on.
func crc16(data []byte) uint16 {
	crc := uint16(0xFFFF)
	for _, b := range data {
		crc ^= uint16(b)
		for range 8 {
			if crc&1 != 0 {
				crc = crc>>1 ^ 0xA001
			} else {
				crc >>= 1
			}
		}
	}
	return crc
}

package ubifs

import (
	"cmp"
	"slices"
)

// Types of keys.
const (
	keyInode = 0
	keyData  = 1
	keyEntry = 2
)

// fanout is the number of children of a node of the index.
const fanout = 8

// Sizes of a node of the index and of a branch in it.
const (
	indexSize  = 28
	branchSize = 20
)

// key finds a node: that of an inode, with a block's number or the hash of a name.
type key struct {
	inode uint64
	typ   uint32
	value uint32
}

// words returns the key's two numbers.
func (k key) words() (a, b uint32) { return uint32(k.inode), k.typ<<29 | k.value }

func (k key) put(b []byte) {
	high, low := k.words()
	le.PutUint32(b, high)
	le.PutUint32(b[4:], low)
}

// hash is R5 of a name (kernel: fs/ubifs/key.h); 0 to 2 are for other uses.
func hash(name string) uint32 {
	var a uint32
	for _, c := range []byte(name) {
		s := int32(int8(c))
		a += uint32(s << 4)
		a += uint32(s >> 4)
		a *= 11
	}
	if a &= 1<<29 - 1; a <= 2 {
		a += 3
	}
	return a
}

// indexEntry is where a node is.
type indexEntry struct {
	key                   key
	name                  string // of a directory's entry
	block, offset, length int
}

func compareEntries(a, b indexEntry) int {
	a1, a2 := a.key.words()
	b1, b2 := b.key.words()
	return cmp.Or(cmp.Compare(a1, b1), cmp.Compare(a2, b2), cmp.Compare(a.name, b.name))
}

// writeIndex writes the index from its leaves to the root, which is left in w.index, behind a
// block that is reserved for the garbage collector.
func (w *writer) writeIndex() error {
	slices.SortFunc(w.index, compareEntries)
	w.sums.gcBlock = w.block
	w.note(0, 0)
	w.sums.empty++
	w.block++
	for level := 0; level == 0 || len(w.index) > 1; level++ {
		if err := w.indexLevel(level); err != nil {
			return err
		}
	}
	w.sums.indexBlock, w.sums.indexOffset = w.block, align(len(w.head), w.Page)
	return w.flush(isIndex)
}

// indexLevel replaces w.index by the nodes above it.
func (w *writer) indexLevel(level int) error {
	above := w.index[:0]
	for children := range slices.Chunk(w.index, fanout) {
		node := make([]byte, indexSize, indexSize+len(children)*branchSize)
		le.PutUint16(node[24:], uint16(len(children)))
		le.PutUint16(node[26:], uint16(level))
		for _, c := range children {
			b := make([]byte, branchSize)
			le.PutUint32(b, uint32(c.block))
			le.PutUint32(b[4:], uint32(c.offset))
			le.PutUint32(b[8:], uint32(c.length))
			c.key.put(b[12:])
			node = append(node, b...)
		}
		at, err := w.place(indexNode, node, isIndex)
		if err != nil {
			return err
		}
		w.sums.indexSize += int64(align(len(node), 8))
		at.key = children[0].key
		above = append(above, at)
	}
	w.index = above
	return nil
}

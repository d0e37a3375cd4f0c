package ext4

import (
	"cmp"
	"slices"
	"strings"
)

// Bytes of a directory's index.
const (
	rootInfo    = 8 // behind the entries "." and ".."
	nodeHead    = 8 // an entry without a name
	indexTail   = 8 // of an index node: the checksum
	indexEntry  = 8
	rootStart   = dotsSize + rootInfo
	halfMD4     = 1
	continuedBy = 1 // bit of a hash: names with it are also at the end of the node before
)

// child is a block below an index node: the hash from which on, and its number in the
// directory.
type child struct{ hash, block uint32 }

// indexed appends the blocks of a directory with an index, in one or two levels; it reports
// whether these suffice.
func (d *dirBlocks) indexed(dots, names []name, seed [16]byte) bool {
	hasher := newHasher(seed)
	for i := range names {
		names[i].hash, names[i].minor = hasher.hash(names[i].text)
	}
	slices.SortFunc(names, func(a, b name) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.minor, b.minor), strings.Compare(a.text, b.text))
	})
	leaves := d.split(names)
	top, perNode := d.entries(rootStart), d.entries(nodeHead)
	var nodes int
	if len(leaves) > top {
		if nodes = (len(leaves) + perNode - 1) / perNode; nodes > top {
			return false
		}
	}
	children := make([]child, len(leaves))
	from := 0
	for i, n := range leaves {
		children[i] = child{names[from].hash, uint32(1 + nodes + i)}
		if from > 0 && names[from-1].hash == names[from].hash {
			children[i].hash |= continuedBy
		}
		from += n
	}
	d.index(dots, children, nodes, perNode)
	for _, n := range leaves {
		d.leaf(names[:n])
		names = names[n:]
	}
	return true
}

// split returns the number of names in each leaf.
func (d *dirBlocks) split(names []name) []int {
	var out []int
	for len(names) > 0 {
		n := d.fill(names)
		out = append(out, n)
		names = names[n:]
	}
	return out
}

// entries is the number of index entries in a block behind so many bytes.
func (d *dirBlocks) entries(head int) int { return (d.size - head - indexTail) / indexEntry }

// index appends the root and the nodes.
func (d *dirBlocks) index(dots []name, children []child, nodes, perNode int) {
	top := children
	if nodes > 0 {
		top = nil
		for i := 0; i < len(children); i += perNode {
			top = append(top, child{children[i].hash, uint32(1 + len(top))})
		}
	}
	root := make([]byte, d.size)
	at := putName(root, &dots[0])
	putName(root[at:], &dots[1])
	le.PutUint16(root[at+4:], uint16(d.size-at))
	root[dotsSize+4], root[dotsSize+5] = halfMD4, rootInfo
	if nodes > 0 {
		root[dotsSize+6] = 1
	}
	d.node(root, rootStart, top)
	for i := 0; nodes > 0 && i < len(children); i += perNode {
		b := make([]byte, d.size)
		le.PutUint16(b[4:], uint16(d.size))
		d.node(b, nodeHead, children[i:min(i+perNode, len(children))])
	}
}

// node appends a block with index entries behind its first bytes. The first entry needs no
// hash: the number of entries is in its place.
func (d *dirBlocks) node(b []byte, head int, children []child) {
	for i, c := range children {
		le.PutUint32(b[head+i*indexEntry:], c.hash)
		le.PutUint32(b[head+i*indexEntry+4:], c.block)
	}
	le.PutUint16(b[head:], uint16(d.entries(head)))
	le.PutUint16(b[head+2:], uint16(len(children)))
	tail := b[head+d.entries(head)*indexEntry:]
	sum := checksum(d.sum, b[:head+len(children)*indexEntry])
	le.PutUint32(tail[4:], checksum(sum, make([]byte, indexTail)))
	d.data = append(d.data, b...)
}

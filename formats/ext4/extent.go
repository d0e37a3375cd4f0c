package ext4

const (
	extentMagic   = 0xF30A
	extentEntry   = 12 // bytes of a header and of each entry
	rootEntries   = 4  // in an inode
	longestExtent = 32768
)

// extents is the map from a file's blocks to those of the file system under construction.
// Full nodes of the tree are written at once, so that only one of each level is kept.
type extents struct {
	w      *writer
	sum    uint32 // the seed of the inode's checksums
	levels []level
	last   extent // not yet in level 0
	blocks int64  // in use by data and tree
}

type extent struct{ logical, physical, length int64 }

// level is the node of one level of the tree that is being filled. Its entries are those on
// disk.
type level struct {
	entries []byte
	flushed bool
}

// perNode is the number of entries in a block behind the header.
func (x *extents) perNode() int { return (int(x.w.block) - extentEntry) / extentEntry }

// add appends a run of blocks that holds the file's blocks from logical on.
func (x *extents) add(logical int64, r run) error {
	x.blocks += r.end - r.start
	for r.start < r.end {
		if x.last.length == 0 || x.last.logical+x.last.length != logical || x.last.physical+x.last.length != r.start || x.last.length == longestExtent {
			if err := x.finishLast(); err != nil {
				return err
			}
			x.last = extent{logical, r.start, 0}
		}
		n := min(longestExtent-x.last.length, r.end-r.start)
		x.last.length += n
		logical, r.start = logical+n, r.start+n
	}
	return nil
}

func (x *extents) finishLast() error {
	if x.last.length == 0 {
		return nil
	}
	e := le.AppendUint32(nil, uint32(x.last.logical))
	e = le.AppendUint16(e, uint16(x.last.length))
	e = le.AppendUint16(e, uint16(x.last.physical>>32))
	e = le.AppendUint32(e, uint32(x.last.physical))
	x.last = extent{}
	return x.push(0, e)
}

// push appends an entry to the node of a level; a full one is written first.
func (x *extents) push(n int, entry []byte) error {
	if n == len(x.levels) {
		x.levels = append(x.levels, level{})
	}
	if len(x.levels[n].entries) == x.perNode()*extentEntry {
		if err := x.flush(n); err != nil {
			return err
		}
	}
	x.levels[n].entries = append(x.levels[n].entries, entry...)
	return nil
}

// flush writes the node of a level and puts its place into the next level.
func (x *extents) flush(n int) error {
	at, err := x.w.free.one()
	if err != nil {
		return err
	}
	x.blocks++
	node := make([]byte, x.w.block)
	entries := x.levels[n].entries
	x.header(node, n, x.perNode())
	copy(node[extentEntry:], entries)
	tail := extentEntry * (1 + x.perNode())
	le.PutUint32(node[tail:], checksum(x.sum, node[:tail]))
	x.w.out.write(at*x.w.block, node)
	index := le.AppendUint32(nil, le.Uint32(entries)) // first block of the file in the node
	index = le.AppendUint32(index, uint32(at))
	index = le.AppendUint16(index, uint16(at>>32))
	index = le.AppendUint16(index, 0)
	x.levels[n] = level{entries: entries[:0], flushed: true}
	return x.push(n+1, index)
}

// header writes that of the node of a level.
func (x *extents) header(node []byte, n, most int) {
	le.PutUint16(node, extentMagic)
	le.PutUint16(node[2:], uint16(len(x.levels[n].entries)/extentEntry))
	le.PutUint16(node[4:], uint16(most))
	le.PutUint16(node[6:], uint16(n))
}

// root finishes the tree and returns what is in the inode.
func (x *extents) root() ([]byte, error) {
	if err := x.finishLast(); err != nil {
		return nil, err
	}
	if len(x.levels) == 0 {
		x.levels = append(x.levels, level{})
	}
	top := 0
	for x.levels[top].flushed || len(x.levels[top].entries) > rootEntries*extentEntry {
		if err := x.flush(top); err != nil {
			return nil, err
		}
		top++
	}
	out := make([]byte, extentEntry*(1+rootEntries))
	x.header(out, top, rootEntries)
	copy(out[extentEntry:], x.levels[top].entries)
	return out, nil
}

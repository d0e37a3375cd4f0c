package ext4

import (
	"fmt"
	"slices"
)

// run is a range of blocks.
type run struct{ start, end int64 }

// geometry is how a file system is divided, in blocks where nothing else is said.
type geometry struct {
	block       int64 // size in bytes
	blocks      int64 // of the file system
	first       int64 // block of group 0: 1 where the superblock has a block of its own
	perGroup    int64
	groups      int64
	inodes      int64 // of a group
	tableBlocks int64 // of the inodes of a group
	descriptors int64 // blocks of the group descriptors
	growth      int64 // blocks behind the descriptors for more of them

	blockBitmaps, inodeBitmaps, tables []int64 // places by group
	metadata                           []run   // all of the above with the copies, in order
	overhead                           int64   // blocks of the metadata
}

// descriptorSize is that of a group descriptor with 64-bit block numbers.
const descriptorSize = 64

func (g *geometry) inodeCount() int64 { return g.inodes * g.groups }

// groupStart returns the first block of a group.
func (g *geometry) groupStart(n int64) int64 { return g.first + n*g.perGroup }

// groupEnd returns the block behind a group.
func (g *geometry) groupEnd(n int64) int64 { return min(g.groupStart(n+1), g.blocks) }

// copies returns the number of blocks at the start of a group that have the superblock, the
// group descriptors and room for more.
func (g *geometry) copies(n int64) int64 {
	if !hasCopy(n) {
		return 0
	}
	return 1 + g.descriptors + g.growth
}

// fewestData is the number of blocks that a last, shorter group must have besides those of
// its own metadata; mke2fs has the same limit.
const fewestData = 50

// divide determines the geometry of a file system.
func divide(o Options) (*geometry, error) {
	g := &geometry{block: int64(o.BlockSize), perGroup: 8 * int64(o.BlockSize), blocks: o.Size / int64(o.BlockSize)}
	if o.BlockSize == 1024 {
		g.first = 1
	}
	for {
		if g.blocks <= g.first {
			return nil, fmt.Errorf("%d bytes are not room for a file system: %w", o.Size, ErrFull)
		}
		g.count(o.InodeRatio)
		own := 2 + g.tableBlocks + g.copies(g.groups-1)
		rest := g.groupEnd(g.groups-1) - g.groupStart(g.groups-1)
		if g.copies(0)+2+g.tableBlocks > g.perGroup {
			return nil, fmt.Errorf("the metadata of a group has no room in its %d blocks: larger blocks or fewer inodes are needed", g.perGroup)
		}
		if rest >= own+fewestData || rest == g.perGroup || g.groups == 1 && rest >= own {
			break
		}
		g.blocks -= rest // of one group, all
	}
	return g, g.place()
}

// count determines the number of groups, of their inodes and of the blocks of descriptors.
func (g *geometry) count(ratio int64) {
	g.groups = ceil(g.blocks-g.first, g.perGroup)
	perBlock := g.block / inodeSize
	inodes := max(g.blocks*g.block/ratio, firstInode+1)
	g.tableBlocks = min(ceil(ceil(inodes, g.groups), perBlock), 8*g.block/perBlock)
	g.inodes = g.tableBlocks * perBlock
	if rest := g.inodes % 8; rest != 0 { // bitmaps have whole bytes
		g.tableBlocks += (8 - rest) / perBlock
		g.inodes += 8 - rest
	}
	g.descriptors = ceil(g.groups*descriptorSize, g.block)
	g.growth = g.reserve()
}

// reserve returns the number of blocks for further descriptors: so many that the file system
// can grow to 1024 times its size, but not more than one block has pointers for.
func (g *geometry) reserve() int64 {
	grown := min(g.blocks*1024, 1<<32-1)
	groups := ceil(grown-g.first, g.perGroup)
	return min(max(ceil(groups, g.block/descriptorSize)-g.descriptors, 0), g.block/4)
}

// place determines the places of bitmaps and inode tables: those of groupsFlex groups are
// together from the start of the first of these groups on.
func (g *geometry) place() error {
	for n := range g.groups {
		if size := g.copies(n); size > 0 {
			g.metadata = append(g.metadata, run{g.groupStart(n), g.groupStart(n) + size})
		}
	}
	g.blockBitmaps, g.inodeBitmaps, g.tables = make([]int64, g.groups), make([]int64, g.groups), make([]int64, g.groups)
	p := placer{copies: slices.Clone(g.metadata), end: g.blocks}
	for from := int64(0); from < g.groups; from += groupsFlex {
		p.at = max(p.at, g.groupStart(from))
		to := min(from+groupsFlex, g.groups)
		for _, kind := range []struct {
			places []int64
			size   int64
		}{{g.blockBitmaps, 1}, {g.inodeBitmaps, 1}, {g.tables, g.tableBlocks}} {
			for n := from; n < to; n++ {
				kind.places[n] = p.take(kind.size)
			}
		}
	}
	if p.at > g.blocks {
		return fmt.Errorf("the metadata needs %d of %d blocks: %w", p.at, g.blocks, ErrFull)
	}
	g.metadata = join(append(g.metadata, p.taken...))
	for _, r := range g.metadata {
		g.overhead += r.end - r.start
	}
	return nil
}

// placer hands out runs of blocks between the copies of the superblock.
type placer struct {
	copies []run // those that are not yet passed, in order
	at     int64
	end    int64
	taken  []run
}

// take returns the start of the next run of n blocks.
func (p *placer) take(n int64) int64 {
	for len(p.copies) > 0 && p.at+n > p.copies[0].start {
		p.at = max(p.at, p.copies[0].end)
		p.copies = p.copies[1:]
	}
	start := p.at
	p.at += n
	if last := len(p.taken) - 1; last >= 0 && p.taken[last].end == start {
		p.taken[last].end = p.at
	} else {
		p.taken = append(p.taken, run{start, p.at})
	}
	return start
}

// join sorts runs and joins neighbours.
func join(runs []run) []run {
	slices.SortFunc(runs, func(a, b run) int { return int(a.start - b.start) })
	out := runs[:0]
	for _, r := range runs {
		if last := len(out) - 1; last >= 0 && out[last].end == r.start {
			out[last].end = r.end
		} else {
			out = append(out, r)
		}
	}
	return out
}

func ceil(a, b int64) int64 { return (a + b - 1) / b }

// Room returns the size of the files and their number that a file system with these options
// has room for besides its own: files in whole blocks, and with the blocks of directories, of
// trees of more than four extents and of attributes that an inode has no room for.
func (o Options) Room() (size, files int64, err error) {
	o, err = o.checked()
	if err != nil {
		return 0, 0, fmt.Errorf("dividing an ext4: %w", err)
	}
	g, err := divide(o)
	if err != nil {
		return 0, 0, fmt.Errorf("dividing an ext4: %w", err)
	}
	free := g.blocks - g.first - g.overhead - o.Journal/g.block - ownBlocks(g.block)
	return max(free, 0) * g.block, max(g.inodeCount()-lostFoundInode, 0), nil
}

// ownBlocks returns the number of blocks that every file system needs besides metadata and
// journal: one of pointers in the inode for growth, the first of the root, those of lost+found,
// and those of the journal's map where copies of the superblock divide it.
func ownBlocks(block int64) int64 { return 1 + 1 + lostFoundSize(block)/block + 3 }

package squashfs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/pantavisor/pantavisor/internal/filecopy"
)

const (
	uncompressed = 1 << 24 // flag in a data block's size
	noFragment   = ^uint32(0)
)

// content is where the data of one regular file lies; files with the same bytes
// share it.
type content struct {
	start    int64    // first block's position in the image
	size     int64    // bytes of the file
	sparse   int64    // bytes of zero blocks that take no room
	blocks   []uint32 // stored sizes with the uncompressed flag; 0 is a hole
	fragment uint32   // index of the fragment block, or noFragment
	offset   uint32   // within the fragment block
}

// block is a piece of data on its way: raw until ready is closed, then packed.
type block struct {
	raw    []byte
	packed []byte
	size   uint32 // what the inode records
	err    error
	ready  chan struct{}
}

// item is what the writing goroutine receives, in the order of the image: either
// a block of the current file, or the current file's end, or between files the end of a fragment block.
type item struct {
	block *block
	tail  []byte // whole content of a small file, bound for a fragment
	seal  bool   // the fragment block is to be closed
	end   *content
	sum   [sha256.Size]byte
}

// fragmentEntry is one line of the fragment table.
type fragmentEntry struct {
	start int64
	size  uint32
}

// pipeline packs blocks on several goroutines and writes them in order on one.
type pipeline struct {
	opts  Options
	file  File
	jobs  chan *block
	order chan item
	raws  sync.Pool
	wg    sync.WaitGroup // packing goroutines
	wrote chan struct{}  // closed when the writing goroutine is done

	mu  sync.Mutex
	err error

	// Of the writing goroutine until wrote is closed.
	pos       int64
	fileStart int64
	current   content
	known     map[[sha256.Size]byte]*content
	dups      bool
	fragment  []byte   // filling up
	sealed    []*block // packed or being packed, not yet written
	fragments []fragmentEntry
}

func newPipeline(file File, opts Options, start int64) (*pipeline, error) {
	p := &pipeline{
		opts: opts, file: file, pos: start,
		jobs:  make(chan *block, opts.Workers),
		order: make(chan item, 2*opts.Workers),
		wrote: make(chan struct{}),
		known: map[[sha256.Size]byte]*content{},
	}
	p.raws.New = func() any { return make([]byte, opts.BlockSize) }
	for range opts.Workers {
		c, err := newCompressor(opts)
		if err != nil {
			close(p.jobs)
			return nil, err
		}
		p.wg.Go(func() { p.pack(c) })
	}
	go p.write()
	return p, nil
}

func (p *pipeline) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
}

func (p *pipeline) failed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

func (p *pipeline) submit(raw []byte) *block {
	b := &block{raw: raw, ready: make(chan struct{})}
	p.jobs <- b
	return b
}

func (p *pipeline) pack(c compressor) {
	e := &estimator{}
	for b := range p.jobs {
		b.err = b.packOnce(p.opts, c, e)
		close(b.ready)
	}
}

// packOnce packs the block unless the cache has it.
func (b *block) packOnce(o Options, c compressor, e *estimator) error {
	if o.Cache == nil {
		return b.pack(c, e)
	}
	key := cacheKey(o, b.raw)
	if known, err := o.Cache.get(key, b); known || err != nil {
		return err
	}
	if err := b.pack(c, e); err != nil {
		return err
	}
	return o.Cache.put(key, b)
}

// pack compresses the block, or keeps it as it is when that is not worth it.
func (b *block) pack(c compressor, e *estimator) error {
	b.packed, b.size = b.raw, uint32(len(b.raw))|uncompressed
	if !e.compressible(b.raw) {
		return nil
	}
	packed, err := c.compress(b.raw)
	if err == nil && len(packed) < len(b.raw) {
		b.packed, b.size = bytes.Clone(packed), uint32(len(packed))
	}
	return err
}

// add reads one regular file and hands its blocks on.
func (p *pipeline) add(ctx context.Context, r io.Reader) (*content, error) {
	c, sum := &content{fragment: noFragment}, sha256.New()
	for {
		if err := errors.Join(ctx.Err(), p.failed()); err != nil {
			return nil, err
		}
		raw := p.raws.Get().([]byte)[:p.opts.BlockSize]
		n, err := io.ReadFull(r, raw)
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return nil, err
		}
		sum.Write(raw[:n])
		c.size += int64(n)
		p.hand(raw, n, last && c.size < int64(p.opts.BlockSize))
		if last {
			break
		}
	}
	end := item{end: c}
	sum.Sum(end.sum[:0])
	p.order <- end
	return c, nil
}

// hand passes one piece of a file to the writing goroutine.
func (p *pipeline) hand(raw []byte, n int, small bool) {
	switch {
	case n == 0:
		p.raws.Put(raw) //nolint:staticcheck // SA6002: a slice header a block is nothing beside the block
	case small:
		p.order <- item{tail: raw[:n]}
	case filecopy.IsZero(raw[:n]):
		p.order <- item{block: &block{raw: raw[:n], ready: closed}}
	default:
		p.order <- item{block: p.submit(raw[:n])}
	}
}

var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// write is the writing goroutine. After an error it keeps receiving, so that
// nobody waits for it for ever.
func (p *pipeline) write() {
	defer close(p.wrote)
	p.fileStart = p.pos
	var tail []byte
	for it := range p.order {
		switch {
		case it.tail != nil:
			tail = it.tail
		case it.block != nil:
			p.writeBlock(it.block)
		case it.seal:
			p.sealFragment()
		default:
			p.endFile(it, tail)
			tail = nil
		}
	}
	p.sealFragment()
	p.flushFragments(0)
}

func (p *pipeline) writeBlock(b *block) {
	<-b.ready
	p.current.blocks = append(p.current.blocks, b.size)
	if b.size == 0 {
		p.current.sparse += int64(len(b.raw))
	} else {
		p.put(b)
	}
	p.raws.Put(b.raw[:cap(b.raw)]) //nolint:staticcheck // SA6002: a slice header a block is nothing beside the block
}

func (p *pipeline) put(b *block) {
	if b.err != nil {
		p.fail(b.err)
		return
	}
	if _, err := p.file.WriteAt(b.packed, p.pos); err != nil {
		p.fail(fmt.Errorf("writing data at %d: %w", p.pos, err))
	}
	p.pos += int64(len(b.packed))
}

// endFile fixes where the file's data lies: behind the file before it or, when
// the same bytes came earlier, there; then the room just taken is given back.
func (p *pipeline) endFile(it item, tail []byte) {
	size := it.end.size
	if same, ok := p.known[it.sum]; ok && size > 0 {
		*it.end = *same
		p.pos, p.dups = p.fileStart, true
	} else {
		*it.end = p.current
		it.end.size, it.end.start, it.end.fragment = size, p.fileStart, noFragment
		if tail != nil {
			it.end.fragment, it.end.offset = p.addFragment(tail)
			it.end.start = 0
		}
		p.known[it.sum] = it.end
	}
	if tail != nil {
		p.raws.Put(tail[:cap(tail)]) //nolint:staticcheck // SA6002: a slice header a block is nothing beside the block
	}
	p.flushFragments(waitingFragments)
	p.current, p.fileStart = content{}, p.pos
}

func (p *pipeline) addFragment(tail []byte) (index, offset uint32) {
	if len(p.fragment)+len(tail) > p.opts.BlockSize {
		p.sealFragment()
	}
	offset = uint32(len(p.fragment))
	p.fragment = append(p.fragment, tail...)
	return uint32(len(p.fragments) + len(p.sealed)), offset
}

func (p *pipeline) sealFragment() {
	if len(p.fragment) > 0 {
		p.sealed = append(p.sealed, p.submit(p.fragment))
		p.fragment = make([]byte, 0, p.opts.BlockSize)
	}
}

// waitingFragments is how many sealed fragments wait behind the blocks of files, so that they can
// be compressed meanwhile. It decides where fragments are in the image: it must not depend on the
// number of workers.
const waitingFragments = 8

// flushFragments writes the oldest sealed fragments until only keep are left. It
// runs between files, whose blocks must not be torn apart.
func (p *pipeline) flushFragments(keep int) {
	for len(p.sealed) > keep {
		b := p.sealed[0]
		p.sealed = p.sealed[1:]
		<-b.ready
		p.fragments = append(p.fragments, fragmentEntry{p.pos, b.size})
		p.put(b)
	}
}

// finish waits until all data is in the file.
func (p *pipeline) finish() error {
	close(p.order)
	<-p.wrote
	close(p.jobs)
	p.wg.Wait()
	return p.failed()
}

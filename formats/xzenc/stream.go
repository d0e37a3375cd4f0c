package xzenc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/crc64"
	"io"
	"runtime"
)

// Effort is how hard a [Writer] searches.
type Effort int

// The efforts.
const (
	// Fast takes the time of xz's preset 0, for data most of which is compressed already.
	Fast Effort = iota
	// Strong gives the size of xz's preset 5: it looks for the cheapest sequence of symbols.
	Strong
)

// Check is the checksum of each block.
type Check byte

// The checks, by their numbers in the format. The kernel knows CRC32 only.
const (
	CRC32 Check = 1
	CRC64 Check = 4
)

// sum appends the check of a block.
func (c Check) sum(dst, block []byte) []byte {
	if c == CRC64 {
		return binary.LittleEndian.AppendUint64(dst, crc64.Checksum(block, crc64Table))
	}
	return binary.LittleEndian.AppendUint32(dst, crc32.ChecksumIEEE(block))
}

var crc64Table = crc64.MakeTable(crc64.ECMA)

// The limits of sizes in [Options], in bytes.
const (
	MaxWindow = 64 << 20
	MaxBlock  = 256 << 20
)

const (
	// defaultBlock is the default of Options.Block.
	defaultBlock = 16 << 20
	// defaultWindow is the default of Options.Window.
	defaultWindow = 8 << 20

	enough = 32 // bytes that end a search for matches
	steps  = 20 // places that it compares: 32 take a tenth more time for 0.1 % of the size
)

// Options are how a [Writer] compresses. The zero value is Fast with CRC32.
type Options struct {
	// Effort is how hard it searches.
	Effort Effort
	// Check is the checksum of each block; 0 is CRC32.
	Check Check
	// X86 turns the branch filter for x86 code on.
	X86 bool
	// Words is for data of units of four bytes, as code for ARM is. Strong only.
	Words bool
	// Window is how far matches reach back, a power of two from [MinDictionary] to [MaxWindow];
	// 0 is 8 MiB. Less is enough for a smaller block. A decoder needs this much memory, and
	// Strong 10 times as much. Fast has [MaxDictionary] at most.
	Window int
	// Block is how many bytes are compressed by themselves, up to [MaxBlock]; 0 is 16 MiB.
	// Each worker has one of them in memory.
	Block int
	// Workers is how many blocks are compressed at the same time; 0 is one for each core.
	// It does not change the result.
	Workers int
}

// fill sets what is left out.
func (o *Options) fill() {
	if o.Check == 0 {
		o.Check = CRC32
	}
	if o.Window == 0 {
		o.Window = defaultWindow
	}
	if o.Block == 0 {
		o.Block = defaultBlock
	}
	if o.Workers == 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Effort == Fast {
		o.Window = min(o.Window, MaxDictionary)
	}
}

// check rejects what is not possible.
func (o *Options) check() error {
	switch {
	case o.Effort != Fast && o.Effort != Strong:
		return fmt.Errorf("effort %d: Fast or Strong is expected", o.Effort)
	case o.Check != CRC32 && o.Check != CRC64:
		return fmt.Errorf("check %d: CRC32 or CRC64 is expected", o.Check)
	case o.Window < MinDictionary || o.Window > MaxWindow || o.Window&(o.Window-1) != 0:
		return fmt.Errorf("window of %d bytes: a power of two from %d to %d is expected", o.Window, MinDictionary, MaxWindow)
	case o.Block < 1 || o.Block > MaxBlock:
		return fmt.Errorf("blocks of %d bytes: 1 to %d are expected", o.Block, MaxBlock)
	case o.Words && o.Effort == Fast:
		return errors.New("words: only a strong effort knows them")
	case o.Workers < 1:
		return fmt.Errorf("%d workers: 1 or more are expected", o.Workers)
	}
	return nil
}

var errClosed = errors.New("xz: the stream has been closed")

// Writer compresses what is written to it into an xz stream of one block after the other.
// Use it from one goroutine.
type Writer struct {
	ctx     context.Context
	to      io.Writer
	options Options
	idle    []*worker
	busy    []*worker // in the order of their blocks
	filling *worker
	started bool
	err     error
	index   []byte
	count   uint64
}

// NewWriter returns a writer that compresses to another one, until the context is done.
func NewWriter(ctx context.Context, to io.Writer, o Options) (*Writer, error) {
	o.fill()
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("compressing to xz: %w", err)
	}
	return &Writer{ctx: ctx, to: to, options: o}, nil
}

// Write compresses p.
func (w *Writer) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) && w.err == nil {
		if w.filling == nil {
			w.filling = w.free()
			continue
		}
		b := w.filling
		more := min(len(p)-n, w.options.Block-len(b.block))
		b.block = append(b.block, p[n:n+more]...)
		n += more
		if len(b.block) == w.options.Block {
			w.compress()
		}
	}
	return n, w.err
}

// Close ends the stream. It does not close the writer below.
func (w *Writer) Close() error {
	if w.filling != nil && len(w.filling.block) > 0 {
		w.compress()
	}
	for len(w.busy) > 0 {
		w.collect()
	}
	w.begin()
	index := pad(append(binary.AppendUvarint([]byte{0}, w.count), w.index...), 0)
	w.write(streamTail(sealed(nil, index), w.options.Check, len(index)))
	err := w.err
	if err == nil {
		w.err = errClosed
	}
	return err
}

// free returns a worker without work. There is one at most for each block that may be
// compressed at the same time, so it may have to wait for the oldest of them.
func (w *Writer) free() *worker {
	if len(w.idle) == 0 && len(w.busy) < w.options.Workers {
		return newWorker(w.options)
	}
	if len(w.idle) == 0 {
		w.collect()
	}
	last := len(w.idle) - 1
	b := w.idle[last]
	w.idle = w.idle[:last]
	b.block = b.block[:0]
	return b
}

// compress lets the worker start whose block is full.
func (w *Writer) compress() {
	b := w.filling
	w.filling, w.busy = nil, append(w.busy, b)
	go func() { b.done <- b.compress(w.ctx, &w.options) }()
}

// collect waits for the oldest block, and writes it.
func (w *Writer) collect() {
	b := w.busy[0]
	w.busy, w.idle = w.busy[1:], append(w.idle, b)
	if err := <-b.done; err != nil && w.err == nil {
		w.err = fmt.Errorf("compressing to xz: %w", err)
	}
	w.begin()
	w.write(b.header)
	w.write(b.packed)
	w.index = binary.AppendUvarint(w.index, uint64(b.unpadded))
	w.index = binary.AppendUvarint(w.index, uint64(len(b.block)))
	w.count++
}

// begin writes the header of the stream.
func (w *Writer) begin() {
	if !w.started {
		w.started = true
		w.write(streamHead(nil, w.options.Check))
	}
}

func (w *Writer) write(p []byte) {
	if w.err != nil {
		return
	}
	if _, err := w.to.Write(p); err != nil {
		w.err = fmt.Errorf("writing xz: %w", err)
	}
}

// worker compresses a block.
type worker struct {
	block          []byte
	header, packed []byte
	unpadded       int // bytes of both, without those that fill up to four
	lzma           chunks
	done           chan error
}

func newWorker(o Options) *worker {
	b := &worker{block: make([]byte, 0, o.Block), done: make(chan error, 1), lzma: chunks{copies: true}}
	switch {
	case o.Effort == Fast:
		b.lzma.packer = newEncoder()
	case o.Words:
		b.lzma.packer = newParser(words, o.Window, enough, steps)
	default:
		b.lzma.packer = newParser(anyData, o.Window, enough, steps)
	}
	return b
}

// compress fills header and packed.
func (b *worker) compress(ctx context.Context, o *Options) error {
	sum := o.Check.sum(nil, b.block)
	if o.X86 {
		filterX86(b.block)
	}
	part := len(b.block)
	if o.Effort == Fast {
		part = o.Window
	}
	if b.packed == nil {
		b.packed = make([]byte, 0, len(b.block)/3) // most need not grow, which would take twice as much for a moment
	}
	b.packed = b.packed[:0]
	for rest := b.block; len(rest) > 0; rest = rest[min(part, len(rest)):] {
		for b.lzma.begin(rest[:min(part, len(rest))]); b.lzma.more(); {
			if err := ctx.Err(); err != nil {
				return err
			}
			b.packed = b.lzma.next(b.packed)
		}
	}
	b.packed = append(b.packed, 0)
	b.header = blockHeader(o, len(b.packed), len(b.block))
	b.unpadded = len(b.header) + len(b.packed) + len(sum)
	b.packed = append(pad(b.packed, 0), sum...)
	return nil
}

// The numbers of the filters.
const (
	filterLZMA2 = 0x21
	filterBCJ   = 4
)

// blockHeader describes a block with its sizes, by which tools decompress several at the
// same time.
func blockHeader(o *Options, packed, plain int) []byte {
	const sizes = 0xc0
	filters := []byte{filterLZMA2, 1, dictionaryProperty(windowFor(plain, o.Window))}
	flags := byte(sizes)
	if o.X86 {
		flags |= 1 // filter more than one
		filters = append([]byte{filterBCJ, 0}, filters...)
	}
	h := binary.AppendUvarint([]byte{0, flags}, uint64(packed))
	h = pad(append(binary.AppendUvarint(h, uint64(plain)), filters...), 0)
	h[0] = byte(len(h) / 4)
	return sealed(nil, h)
}

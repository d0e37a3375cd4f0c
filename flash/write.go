package flash

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"hash/maphash"
	"io"
	"os"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// Phase is what [Write] is doing.
type Phase string

// The phases.
const (
	Writing   Phase = "writing"
	Verifying Phase = "verifying"
)

// Options are those of [Write].
type Options struct {
	// Progress, if not nil, is told how many bytes of a phase are done, out of all that the
	// phase has.
	Progress func(p Phase, done, total int64)
	// Whole writes what is not mapped, too.
	Whole bool
	// Disk is the one that is meant, as [Look] has described it: another one that has its path by
	// now is not written. Default: any disk at the path.
	Disk *Disk
}

// Result says what [Write] has done.
type Result struct {
	// Bytes are those that were written, without the blocks that the map leaves out.
	Bytes int64
	// Direct is set when the medium was written and read past the cache of the system.
	Direct bool
	// Stale is why the kernel still uses the old partition table, nil when it does not.
	Stale error
}

// Sizes in bytes.
const (
	headSize  = 1 << 20  // holds tables and their entries; it is written last
	tailSize  = 64 << 10 // holds the copy of a GUID partition table
	firstSize = 4096     // the last block to be written
	chunkSize = 1 << 20
)

// medium is what an image is written to. Slices that are written and read begin at a
// multiple of [alignment] in memory, except for those of the head.
type medium interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// fits returns why an image of size bytes cannot be on the medium, and changes nothing.
	fits(size int64) error
	// begin makes the medium ready for an image of size bytes, which fits, and gives it a first
	// block.
	begin(size int64, first []byte) error
	// sync waits until everything is on the medium.
	sync() error
	// uncache makes later reads come from the medium.
	uncache() error
	// reread makes the kernel read the new table.
	reread() error
	// direct reports whether the cache of the system has no part in it.
	direct() bool
}

// Write writes an image, which must have been opened for this alone, to a block device or
// a file, and compares what is then there with the image. The error has the kind
// [fault.NoSpace] when the medium is too small, [fault.BadInput] for a disk that is in use
// or not a whole disk and for an image that is damaged, [fault.Digest] for content that
// differs from its checksum and for a medium that does not keep what is written. After an
// error that comes with writing, the medium has no partition table but the mark that
// [ReadMark] reads.
func Write(ctx context.Context, image *Image, to string, o Options) (Result, error) {
	if err := image.other(to); err != nil {
		return Result{}, err
	}
	m, err := openMedium(to, o.Disk)
	if err != nil {
		return Result{}, fault.Wrap(fault.IO, err, "opening %s", to)
	}
	defer m.Close()
	w := &writing{medium: m, source: source{image: image}, parts: image.ranges(o.Whole), progress: o.Progress}
	if err := w.run(ctx); err != nil {
		return Result{}, fault.Wrap(fault.IO, err, "writing %s to %s", image.Path, to)
	}
	r := Result{Bytes: w.total, Direct: m.direct(), Stale: m.reread()}
	return r, fault.Wrap(fault.IO, m.Close(), "closing %s", to)
}

// other checks that a medium is not the image itself.
func (i *Image) other(to string) error {
	a, err := i.file.Stat()
	if err != nil {
		return fault.Wrap(fault.IO, err, "looking at %s", i.Path)
	}
	if b, err := os.Stat(to); err == nil && os.SameFile(a, b) {
		return fault.New(fault.BadInput, "writing %s to %s: it is the same file", i.Path, to)
	}
	return nil
}

// writing is an image on its way to a medium.
type writing struct {
	medium
	source   source
	parts    []part
	written  []piece // what must be read back
	head     []byte
	held     []part // what of the head is mapped
	total    int64
	done     int64
	progress func(Phase, int64, int64)
}

// piece is a range that was written, with a hash of its content. The hash has a seed of this
// process: it finds what a medium does not keep, not what somebody forges.
type piece struct {
	at  int64
	n   int
	sum uint64
}

var seed = maphash.MakeSeed()

func (w *writing) run(ctx context.Context) error {
	w.head = aligned(headSize)
	for _, p := range w.parts {
		w.total += p.end - p.from
	}
	mark := aligned(firstSize)
	copy(mark, encodeMark(w.source.image))
	mark = mark[:min(firstSize, w.source.image.Size)]
	if err := w.fits(w.source.image.Size); err != nil {
		return err
	}
	err := w.begin(w.source.image.Size, mark)
	if err == nil {
		err = w.fill(ctx)
	}
	if err == nil {
		return nil
	}
	// The mark may be gone: it was never written, the first block is in its place, or a medium with
	// less room than it says has put another block there.
	_, again := w.WriteAt(mark, 0)
	err = errors.Join(err, again, w.sync())
	return fault.Wrap(fault.IO, err, "the medium is incomplete, without a partition table, and must be written again")
}

// fill writes and verifies everything, the first block last.
func (w *writing) fill(ctx context.Context) error {
	if err := w.copyAll(ctx); err != nil {
		return err
	}
	for _, step := range []func() error{w.sync, w.rest, w.sync, w.uncache} {
		if err := step(); err != nil {
			return err
		}
	}
	w.done = 0
	if err := w.verify(ctx, firstSize, w.source.image.Size); err != nil {
		return err
	}
	for _, step := range []func() error{w.first, w.sync, w.uncache} {
		if err := step(); err != nil {
			return err
		}
	}
	return w.verify(context.WithoutCancel(ctx), 0, firstSize)
}

// chunk is what was read of the image.
type chunk struct {
	data []byte
	at   int64
}

// copyAll writes all parts, except for what is in the head, while the image is read and its
// checksums are compared.
func (w *writing) copyAll(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	const ahead = 3 // chunks that are read before they can be written
	free, full, end := make(chan []byte, ahead), make(chan chunk, ahead), make(chan error, 1)
	for range ahead {
		free <- aligned(chunkSize)
	}
	go func() {
		defer close(full)
		end <- w.readAll(ctx, free, full)
	}()
	for c := range full {
		if err := w.put(c.data, c.at); err != nil {
			cancel()
			for range full { // until nothing reads the image any more
			}
			return err
		}
		w.advance(Writing, len(c.data))
		free <- c.data[:chunkSize]
	}
	return <-end
}

// readAll reads all parts of the image in chunks.
func (w *writing) readAll(ctx context.Context, free <-chan []byte, full chan<- chunk) error {
	for i := range w.parts {
		p := &w.parts[i]
		if err := w.source.skipTo(ctx, p.from); err != nil {
			return short(err, p.from)
		}
		sum := sha256.New()
		for at := p.from; at < p.end; {
			var buf []byte
			select {
			case buf = <-free:
			case <-ctx.Done():
				return ctx.Err()
			}
			// No chunk crosses the end of the head.
			b := buf[:min(p.end-at, chunkSize-at%chunkSize)]
			if n, err := w.source.Read(b); err != nil {
				return short(err, at+int64(n))
			}
			if p.sum != "" {
				sum.Write(b)
			}
			select {
			case full <- chunk{b, at}:
			case <-ctx.Done():
				return ctx.Err()
			}
			at += int64(len(b))
		}
		if err := p.check(sum); err != nil {
			return err
		}
	}
	return w.source.finish()
}

// short says where the content ended too early.
func short(err error, at int64) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fault.New(fault.BadInput, "the image ends at byte %d, within what it should have: it was cut", at)
	}
	return err
}

// check compares the sum of what was read with the one of the map, if there is one.
func (p *part) check(sum hash.Hash) error {
	if p.sum == "" {
		return nil
	}
	if got := hex.EncodeToString(sum.Sum(nil)); p.sum != got {
		return fault.New(fault.Digest, "bytes %d to %d of the image differ from their checksum: have %s, want %s", p.from, p.end-1, got, p.sum)
	}
	return nil
}

func (w *writing) put(b []byte, at int64) error {
	if at >= headSize {
		return w.write(b, at)
	}
	copy(w.head[at:], b)
	w.held = append(w.held, part{from: at, end: at + int64(len(b))})
	return nil
}

// write writes a range and keeps its hash.
func (w *writing) write(b []byte, at int64) error {
	if _, err := w.WriteAt(b, at); err != nil {
		return err
	}
	w.written = append(w.written, piece{at, len(b), maphash.Bytes(seed, b)})
	return nil
}

// rest writes the head without its first block.
func (w *writing) rest() error {
	return w.flush(firstSize, headSize)
}

// first writes the first block, which has the partition table's first sectors. It takes the
// place of the mark also where the image has no data.
func (w *writing) first() error { return w.write(w.head[:min(firstSize, w.source.image.Size)], 0) }

// flush writes what is mapped of a range of the head.
func (w *writing) flush(from, end int64) error {
	for _, p := range w.held {
		a, b := max(p.from, from), min(p.end, end)
		if a >= b {
			continue
		}
		if err := w.write(w.head[a:b], a); err != nil {
			return err
		}
	}
	return nil
}

// verify reads from the medium what was written to a range.
func (w *writing) verify(ctx context.Context, from, end int64) error {
	buf := aligned(chunkSize)
	for _, p := range w.written {
		if p.at < from || p.at >= end {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		b := buf[:p.n]
		if _, err := w.ReadAt(b, p.at); err != nil {
			return fault.Wrap(fault.IO, err, "reading back")
		}
		if maphash.Bytes(seed, b) != p.sum {
			return fault.New(fault.Digest, "the medium does not keep what was written: bytes %d to %d are others when they are read back; use another medium", p.at, p.at+int64(p.n)-1)
		}
		w.advance(Verifying, p.n)
	}
	return nil
}

// advance tells the progress. Of the first block, the part that the image does not map is not
// in the total.
func (w *writing) advance(p Phase, n int) {
	w.done = min(w.done+int64(n), w.total)
	if w.progress != nil {
		w.progress(p, w.done, w.total)
	}
}

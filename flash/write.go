package flash

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"

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
}

// Result says what [Write] has done.
type Result struct {
	// Bytes are those that were written, without the blocks that the map leaves out.
	Bytes int64
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

// medium is what an image is written to.
type medium interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// begin makes the medium ready for an image: nothing of it is changed when that fails.
	begin(size int64) error
	// sync waits until everything is on the medium.
	sync() error
	// uncache makes later reads come from the medium.
	uncache() error
	// reread makes the kernel read the new table.
	reread() error
}

// Write writes an image, which must have been opened for this alone, to a block device or
// a file, and compares what is then there with the image. The error has the kind
// [fault.NoSpace] when the medium is too small, [fault.BadInput] for a disk that is in use
// or not a whole disk, [fault.Digest] for content that differs from its checksum. After an
// error that comes with writing the medium has no partition table.
func Write(ctx context.Context, image *Image, to string, o Options) (Result, error) {
	m, err := openMedium(to)
	if err != nil {
		return Result{}, fault.Wrap(fault.IO, err, "opening %s", to)
	}
	defer m.Close()
	w := &writing{medium: m, source: source{image: image}, parts: image.ranges(), progress: o.Progress}
	for _, p := range w.parts {
		w.total += p.end - p.from
	}
	if err := w.run(ctx); err != nil {
		return Result{}, fault.Wrap(fault.IO, err, "writing %s to %s", image.Path, to)
	}
	r := Result{Bytes: w.total, Stale: m.reread()}
	return r, fault.Wrap(fault.IO, m.Close(), "closing %s", to)
}

// writing is an image on its way to a medium.
type writing struct {
	medium
	source   source
	parts    []part
	head     [headSize]byte
	held     []part // what of the head is mapped
	total    int64
	done     int64
	progress func(Phase, int64, int64)
}

func (w *writing) run(ctx context.Context) error {
	if err := w.begin(w.source.image.Size); err != nil {
		return err
	}
	for i := range w.parts {
		if err := w.copy(ctx, &w.parts[i]); err != nil {
			return err
		}
	}
	if err := w.sync(); err != nil {
		return err
	}
	for _, step := range []func() error{w.rest, w.sync, w.first, w.sync, w.uncache} {
		if err := step(); err != nil {
			return err
		}
	}
	return w.verify(ctx)
}

// copy writes one part, except for what is in the head, and checks or fills in its sum.
func (w *writing) copy(ctx context.Context, p *part) error {
	if err := w.source.skipTo(p.from); err != nil {
		return short(err, p.from)
	}
	sum, buf := sha256.New(), make([]byte, chunkSize)
	for at := p.from; at < p.end; {
		if err := ctx.Err(); err != nil {
			return err
		}
		// No chunk crosses the end of the head.
		b := buf[:min(p.end-at, chunkSize-at%chunkSize)]
		if n, err := w.source.Read(b); err != nil {
			return short(err, at+int64(n))
		}
		sum.Write(b)
		if err := w.put(b, at); err != nil {
			return err
		}
		at += int64(len(b))
		w.advance(Writing, int64(len(b)))
	}
	return p.check(sum)
}

// short says where the content ended too early.
func short(err error, at int64) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fault.New(fault.BadInput, "the image ends at byte %d, within a range of its block map", at)
	}
	return err
}

// check compares the sum of what was read with the one of the map; without a map it keeps it.
func (p *part) check(sum hash.Hash) error {
	got := hex.EncodeToString(sum.Sum(nil))
	if p.sum != "" && p.sum != got {
		return fault.New(fault.Digest, "bytes %d to %d differ from their checksum: have %s, want %s", p.from, p.end-1, got, p.sum)
	}
	p.sum = got
	return nil
}

func (w *writing) put(b []byte, at int64) error {
	if at >= headSize {
		_, err := w.WriteAt(b, at)
		return err
	}
	copy(w.head[at:], b)
	w.held = append(w.held, part{from: at, end: at + int64(len(b))})
	return nil
}

// rest writes the head without its first block.
func (w *writing) rest() error { return w.flush(firstSize, headSize) }

// first writes the first block, which has the partition table's first sectors.
func (w *writing) first() error { return w.flush(0, firstSize) }

// flush writes what is mapped of a range of the head.
func (w *writing) flush(from, end int64) error {
	for _, p := range w.held {
		a, b := max(p.from, from), min(p.end, end)
		if a >= b {
			continue
		}
		if _, err := w.WriteAt(w.head[a:b], a); err != nil {
			return err
		}
	}
	return nil
}

// verify reads all parts from the medium.
func (w *writing) verify(ctx context.Context) error {
	w.done = 0
	buf := make([]byte, chunkSize)
	for _, p := range w.parts {
		sum := sha256.New()
		for at := p.from; at < p.end; {
			if err := ctx.Err(); err != nil {
				return err
			}
			b := buf[:min(p.end-at, chunkSize)]
			if _, err := w.ReadAt(b, at); err != nil {
				return fault.Wrap(fault.IO, err, "reading back")
			}
			sum.Write(b)
			at += int64(len(b))
			w.advance(Verifying, int64(len(b)))
		}
		if err := p.check(sum); err != nil {
			return fault.Wrap(fault.Digest, err, "the medium does not keep what was written")
		}
	}
	return nil
}

func (w *writing) advance(p Phase, n int64) {
	w.done += n
	if w.progress != nil {
		w.progress(p, w.done, w.total)
	}
}

package media

import (
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/xz4"
	"github.com/pantavisor/pantavisor/formats/xzenc"
	"github.com/pantavisor/pantavisor/internal/ctxio"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/scratch"
)

// CompressedFile is the file in the output of a [Compressed].
const CompressedFile = "disk.img.packed"

// Forms lists the forms of compression, by the suffixes that they give to names of files.
func Forms() []string { return slices.Sorted(maps.Keys(forms)) }

// form is a form of compression.
type form struct {
	// pack compresses a piece to a file.
	pack func(ctx context.Context, from io.Reader, to io.Writer) error
	// join puts compressed pieces together.
	join func(to io.Writer, pieces []*os.File) error
}

var forms = map[string]form{
	"xz":  {packXZ, joinXZ},
	"zst": {packZstd, joinZstd},
}

// pieceSize is how much is compressed by itself, so that all cores have work and their
// number does not change the bytes. A piece of zeros is compressed once.
const pieceSize = 16 << 20

// Compressed is the step that compresses an image in pieces: an xz stream with a block, or
// a zstd frame, for each.
type Compressed struct {
	// Form is one of [Forms].
	Form string
	// Image is the file to compress.
	Image File `json:"-"`
}

var (
	_ build.Step     = (*Compressed)(nil)
	_ build.Weighted = (*Compressed)(nil)
)

// Name is that of the image's step and the form.
func (s *Compressed) Name() string { return s.Image.Step.Name() + "/" + s.Form }

// Deps are the image.
func (s *Compressed) Deps() []build.Step { return []build.Step{s.Image.Step} }

// Cores implements build.Weighted: it uses all cores.
func (s *Compressed) Cores() int { return 0 }

// Run compresses the pieces, and joins them.
func (s *Compressed) Run(ctx context.Context, w *build.Work) error {
	f, ok := forms[s.Form]
	if !ok {
		return fault.New(fault.BadInput, "compressing the image: %q is not a form of compression; want %s", s.Form, strings.Join(Forms(), ", "))
	}
	d, err := openDisk(s.Image.in(w))
	if err != nil {
		return err
	}
	defer d.Close()
	pieces, err := s.pack(ctx, w, f, d)
	defer func() {
		for _, p := range pieces {
			if p != nil {
				_ = p.Close() // the same one may be there more than once
			}
		}
	}()
	if err != nil {
		return fault.Wrap(fault.IO, err, "compressing the image")
	}
	out, err := os.Create(filepath.Join(w.Out, CompressedFile))
	if err != nil {
		return fault.Wrap(fault.IO, err, "compressing the image")
	}
	defer out.Close()
	if err := f.join(out, pieces); err != nil {
		return fault.Wrap(fault.IO, err, "compressing the image")
	}
	return fault.Wrap(fault.IO, out.Close(), "compressing the image")
}

// pack returns the compressed pieces in their order.
func (s *Compressed) pack(ctx context.Context, w *build.Work, f form, d *disk) ([]*os.File, error) {
	pieces := make([]*os.File, (d.size+pieceSize-1)/pieceSize)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	var empty *os.File // the compressed piece of zeros
	for n := range pieces {
		from := int64(n) * pieceSize
		hole := d.hole(from, pieceSize)
		if hole && empty != nil {
			pieces[n] = empty
			continue
		}
		to, err := scratch.Unnamed(w.Tmp, "piece")
		if err != nil {
			return pieces, errors.Join(err, group.Wait())
		}
		pieces[n] = to
		if hole {
			empty = to
		}
		piece := io.NewSectionReader(d, from, min(pieceSize, d.size-from))
		group.Go(func() error { return f.pack(ctx, piece, to) })
	}
	return pieces, group.Wait()
}

// packXZ compresses fast, since most of an image is compressed already, with the check that
// the join knows.
func packXZ(ctx context.Context, from io.Reader, to io.Writer) error {
	z, err := xzenc.NewWriter(ctx, to, xzenc.Options{Check: xzenc.CRC32, Block: pieceSize, Workers: 1})
	if err != nil {
		return err
	}
	if _, err := io.Copy(z, from); err != nil {
		return err
	}
	return z.Close()
}

func joinXZ(to io.Writer, pieces []*os.File) error {
	var inputs []xz4.Input
	for _, p := range pieces {
		info, err := p.Stat()
		if err != nil {
			return err
		}
		inputs = append(inputs, xz4.Input{ReaderAt: p, Size: info.Size()})
	}
	return xz4.Join(to, inputs...)
}

func packZstd(ctx context.Context, from io.Reader, to io.Writer) error {
	z, err := zstd.NewWriter(to, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(8<<20))
	if err != nil {
		return err
	}
	if _, err := io.Copy(z, ctxio.Reader(ctx, from)); err != nil {
		return err
	}
	return z.Close()
}

func joinZstd(to io.Writer, pieces []*os.File) error {
	for _, p := range pieces {
		info, err := p.Stat()
		if err != nil {
			return err
		}
		if _, err := io.Copy(to, io.NewSectionReader(p, 0, info.Size())); err != nil {
			return err
		}
	}
	return nil
}

package ext4

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/filecopy"
)

// pieceSize is the number of bytes of a file that are read at once, a multiple of all block
// sizes.
const pieceSize = 1 << 20

// content writes that of a regular file.
func (w *writer) content(ctx context.Context, e *tree.Entry, x *extents) error {
	if e.Open == nil {
		return nil
	}
	r, err := e.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	if f, ok := r.(*os.File); ok && e.Size > pieceSize {
		return w.sparse(ctx, f, e.Size, x)
	}
	if err := w.read(ctx, r, 0, e.Size, x); err != nil {
		return err
	}
	return atEnd(r, e.Size)
}

// sparse reads a large file without its holes.
func (w *writer) sparse(ctx context.Context, f *os.File, size int64, x *extents) error {
	err := filecopy.Extents(f, size, func(from, to int64) error {
		from -= from % w.block
		if to%w.block != 0 {
			to = min(to+w.block-to%w.block, size)
		}
		return w.read(ctx, io.NewSectionReader(f, from, to-from), from, to-from, x)
	})
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() != size {
		return changed(info.Size(), size)
	}
	return nil
}

// read takes n bytes that are at an offset of a file, on the border of a block.
func (w *writer) read(ctx context.Context, r io.Reader, at, n int64, x *extents) error {
	if w.buf == nil {
		w.buf = make([]byte, pieceSize)
	}
	for done := int64(0); done < n; {
		if err := errors.Join(ctx.Err(), w.failed()); err != nil {
			return err
		}
		piece := w.buf[:min(pieceSize, n-done)]
		got, err := io.ReadFull(r, piece)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return changed(at+done+int64(got), at+n)
		}
		if err != nil {
			return err
		}
		whole := w.buf[:ceil(int64(got), w.block)*w.block]
		clear(whole[got:])
		if err := w.storeData((at+done)/w.block, whole, x); err != nil {
			return err
		}
		done += int64(got)
	}
	return nil
}

// storeData stores whole blocks except for those of zeros.
func (w *writer) storeData(logical int64, data []byte, x *extents) error {
	from := int64(0) // of the blocks that are not yet stored
	size := int64(len(data))
	for at := int64(0); at < size; at += w.block {
		if !filecopy.IsZero(data[at : at+w.block]) {
			continue
		}
		if err := w.store(x, logical+from/w.block, data[from:at]); err != nil {
			return err
		}
		from = at + w.block
	}
	return w.store(x, logical+from/w.block, data[from:])
}

// atEnd checks that a reader has nothing behind size bytes.
func atEnd(r io.Reader, size int64) error {
	switch n, err := io.ReadFull(r, make([]byte, 1)); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	default:
		return changed(size+int64(n), size)
	}
}

func changed(have, want int64) error {
	return fmt.Errorf("it has %d bytes, not %d: it changed while it was read", have, want)
}

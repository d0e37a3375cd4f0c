// Package filecopy copies files. A copy shares the blocks of its source until one of them
// is written, if the file system supports that (FICLONE, ioctl_ficlone(2)). Otherwise the
// data is copied within the kernel (copy_file_range(2)) and holes stay holes. Systems other
// than Linux copy all bytes.
package filecopy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// File copies a regular file to the new file to. On an error no copy is left.
func File(ctx context.Context, to, from string, perm fs.FileMode) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	return To(ctx, to, src, perm)
}

// To is [File] for an open source.
func To(ctx context.Context, to string, src *os.File, perm fs.FileMode) error {
	dst, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	if err := errors.Join(Content(ctx, dst, src), dst.Close()); err != nil {
		_ = os.Remove(to)
		return err
	}
	return nil
}

// Link gives a file another name, or makes a copy with mode 0644 if that fails. Do not
// write to either file afterwards.
func Link(ctx context.Context, to, from string) error {
	err := os.Link(from, to)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	return File(ctx, to, from, 0o644)
}

// Content gives the empty file dst the content of src.
func Content(ctx context.Context, dst, src *os.File) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if Share(dst, src) == nil {
		return nil
	}
	info, err := src.Stat()
	if err != nil {
		return err
	}
	if err := dst.Truncate(info.Size()); err != nil {
		return err
	}
	return Extents(src, info.Size(), func(from, to int64) error { return span(ctx, dst, src, from, to) })
}

// chunk is the number of bytes to copy between two checks of the context.
const chunk = 16 << 20

// span copies a range.
func span(ctx context.Context, dst, src *os.File, from, to int64) error {
	if _, err := src.Seek(from, io.SeekStart); err != nil {
		return err
	}
	if _, err := dst.Seek(from, io.SeekStart); err != nil {
		return err
	}
	for at := from; at < to; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.CopyN(dst, src, min(chunk, to-at))
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%s was cut while it was copied: %w", src.Name(), io.ErrUnexpectedEOF)
		}
		if err != nil {
			return err
		}
		at += n
	}
	return nil
}

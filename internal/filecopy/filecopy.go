// Package filecopy copies files. A copy shares the blocks of its source until one of them
// is written, if the file system supports that (FICLONE, ioctl_ficlone(2)). Otherwise the
// data is copied within the kernel (copy_file_range(2)) and holes stay holes.
package filecopy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
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
	if unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())) == nil {
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

// Extents calls fn with the ranges of a file's first size bytes that may hold data, in
// order. A file system that does not report holes gives one range.
func Extents(f *os.File, size int64, fn func(from, to int64) error) error {
	fd := int(f.Fd())
	for at := int64(0); at < size; {
		data, err := unix.Seek(fd, at, unix.SEEK_DATA)
		switch {
		case errors.Is(err, unix.ENXIO):
			return nil // only a hole is left
		case errors.Is(err, unix.EINVAL):
			return fn(at, size)
		case err != nil:
			return fmt.Errorf("looking for data: %w", err)
		}
		hole, err := unix.Seek(fd, data, unix.SEEK_HOLE)
		if err != nil {
			return fmt.Errorf("looking for a hole: %w", err)
		}
		if data < size {
			if err := fn(data, min(hole, size)); err != nil {
				return err
			}
		}
		at = hole
	}
	return nil
}

package filecopy

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Share gives the empty file dst the blocks of src.
func Share(dst, src *os.File) error { return unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())) }

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

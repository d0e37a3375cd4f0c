//go:build !linux

package filecopy

import (
	"errors"
	"os"
)

// Share returns an error that wraps [errors.ErrUnsupported].
func Share(_, _ *os.File) error { return errors.ErrUnsupported }

// Extents calls fn with the whole range of a file.
func Extents(_ *os.File, size int64, fn func(from, to int64) error) error {
	if size == 0 {
		return nil
	}
	return fn(0, size)
}

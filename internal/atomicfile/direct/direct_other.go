//go:build !linux

package direct

import (
	"errors"
	"os"
)

// isCold returns false: the page cache cannot be asked.
func isCold(*os.File, int64) bool { return false }

// setFlag returns an error that wraps [errors.ErrUnsupported].
func setFlag(*os.File, bool) error { return errors.ErrUnsupported }

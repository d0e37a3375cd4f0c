//go:build unix

package scratch

import (
	"errors"
	"os"
)

// Unnamed creates a file in dir, by default the system's directory for temporary files, that
// is gone when it is closed or the process ends.
func Unnamed(dir, prefix string) (*os.File, error) {
	f, err := os.CreateTemp(dir, prefix)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

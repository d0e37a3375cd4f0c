// Package bounded reads data of untrusted size up to a limit.
package bounded

import (
	"fmt"
	"io"
	"os"
)

// LimitError is the error of more bytes than this limit.
type LimitError int64

func (e LimitError) Error() string { return fmt.Sprintf("more than %d bytes", int64(e)) }

// Read reads to the end of r. More than limit bytes are a [LimitError].
func Read(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, LimitError(limit)
	}
	return b, nil
}

// ReadFile reads the file at path. More than limit bytes are a [LimitError], whatever size the
// file reports: files in /proc report 0.
func ReadFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := Read(f, limit)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return b, nil
}

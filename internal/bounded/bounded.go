// Package bounded reads data of untrusted size up to a limit.
package bounded

import (
	"bytes"
	"errors"
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
	var hint int64
	if st, err := f.Stat(); err == nil {
		hint = st.Size()
	}
	b, err := ReadSized(f, hint, limit)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return b, nil
}

// errIrregular is the error of a path that leads to a pipe, a device or a directory.
var errIrregular = errors.New("not a regular file")

// ReadRegular is [ReadFile] for files that people write: what is not a regular file is an error.
// A pipe is not waited for, and a device is not read.
func ReadRegular(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("reading %s: %w", path, errIrregular)
	}
	return ReadFile(path, limit)
}

// ReadSized is [Read] for data that is said to have size bytes: when that is right, no more
// memory is taken than it needs. The size need not be right, and may be negative.
func ReadSized(r io.Reader, size, limit int64) ([]byte, error) {
	var b bytes.Buffer
	b.Grow(int(max(0, min(size, limit))) + bytes.MinRead)
	if _, err := b.ReadFrom(io.LimitReader(r, limit+1)); err != nil {
		return nil, err
	}
	if int64(b.Len()) > limit {
		return nil, LimitError(limit)
	}
	return b.Bytes(), nil
}

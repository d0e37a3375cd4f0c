// Package bounded reads what may be larger than is good for the reader.
package bounded

import (
	"fmt"
	"io"
	"os"
)

// ReadFile reads the file at path. More than limit bytes are an error, whatever the
// file's size says: files of /proc have none.
func ReadFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return b, err
}

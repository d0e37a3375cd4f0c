package bmap

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// Positions for lseek(2).
const (
	seekData = 3
	seekHole = 4
)

// Extents asks the file system which parts of a sparse file hold data. If it cannot tell,
// the result is the whole file. A file that was just written needs no sync: pages in the
// cache count as data.
func Extents(f *os.File) ([]Extent, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("looking up the size of the image: %w", err)
	}
	var out []Extent
	for at := int64(0); at < info.Size(); {
		start, err := f.Seek(at, seekData)
		if errors.Is(err, syscall.ENXIO) {
			break
		}
		if errors.Is(err, syscall.EINVAL) {
			return []Extent{{0, info.Size()}}, nil
		}
		if err != nil {
			return nil, fmt.Errorf("looking for data in the image: %w", err)
		}
		if at, err = f.Seek(start, seekHole); err != nil {
			return nil, fmt.Errorf("looking for holes in the image: %w", err)
		}
		out = append(out, Extent{start, at - start})
	}
	return out, nil
}

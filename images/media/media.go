// Package media makes the forms in which a disk image is given to people and programs: the
// image compressed, and as a disk of QEMU.
//
// Every step reads the sparse image of another step and writes one file; where the image
// has holes does not change the bytes.
package media

import (
	"os"
	"path/filepath"
	"slices"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/bmap"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// File is a file in the output of a step.
type File struct {
	Step build.Step
	// Path has slashes.
	Path string
}

// in returns the file's path on this machine.
func (f File) in(w *build.Work) string {
	return filepath.Join(w.In(f.Step), filepath.FromSlash(f.Path))
}

// disk is an image that is open for reading.
type disk struct {
	*os.File
	size int64
	// data is where the image has no holes.
	data []bmap.Extent
}

func openDisk(name string) (*disk, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "opening the image")
	}
	data, err := bmap.Extents(f)
	if err != nil {
		_ = f.Close()
		return nil, fault.Wrap(fault.IO, err, "reading the image")
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, fault.Wrap(fault.IO, err, "reading the image")
	}
	return &disk{f, info.Size(), data}, nil
}

// hole reports whether n bytes from an offset on are all there and in a hole.
func (d *disk) hole(from, n int64) bool {
	overlaps := func(e bmap.Extent) bool { return e.Offset < from+n && from < e.Offset+e.Length }
	return d.size-from >= n && !slices.ContainsFunc(d.data, overlaps)
}

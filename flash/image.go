// Package flash writes disk images to media: block devices and files. It reads images as
// they are and compressed (gzip, xz, zstd, bzip2), and the block map beside an image, with
// which it writes the mapped blocks alone and checks each range as it goes.
//
// [Write] keeps this order, so that a medium on which it was interrupted holds no
// partition table and does not boot by half:
//
//  1. the size is checked, and that nothing uses the disk,
//  2. the table that is there is erased: the first MiB and the last 64 KiB,
//  3. all blocks behind the first MiB are written and flushed,
//  4. the first MiB without its first block, then that block, flushed each time,
//  5. everything is read back from the medium, not from the cache, and compared,
//  6. the kernel reads the new table.
//
// Files need no privilege. Block devices can be written on Linux.
package flash

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/formats/bmap"
	"github.com/pantavisor/pantavisor/internal/ctxio"
	"github.com/pantavisor/pantavisor/internal/decompress"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// suffixes are those that compressors add to names of files.
var suffixes = []string{".xz", ".zst", ".gz", ".bz2"}

// Image is an image that is open for one [Write].
type Image struct {
	// Path is the image's file.
	Path string
	// Size is that of the content, decompressed, in bytes.
	Size int64
	// Map is the block map, nil when there is none beside the image.
	Map *bmap.Map

	file    *os.File
	content io.ReadCloser
	packed  bool
}

// Open opens an image and the block map beside it: NAME.bmap, where a suffix of
// compression may be left out of NAME. The size of a compressed image without a map is
// found by decompressing it once.
func Open(ctx context.Context, path string) (*Image, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.Missing, "opening the image: %s is not there", path)
	}
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "opening the image")
	}
	i := &Image{Path: path, file: f}
	if err := i.examine(ctx); err != nil {
		_ = f.Close()
		return nil, fault.Wrap(fault.BadInput, err, "opening the image %s", path)
	}
	return i, nil
}

// Close closes the files of the image.
func (i *Image) Close() error { return errors.Join(i.content.Close(), i.file.Close()) }

// examine determines form, map and size.
func (i *Image) examine(ctx context.Context) (err error) {
	info, err := i.file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fault.New(fault.BadInput, "it is not a regular file")
	}
	if i.Map, err = mapOf(i.Path); err != nil {
		return err
	}
	if err := i.rewind(); err != nil {
		return err
	}
	switch {
	case !i.packed:
		i.Size = info.Size()
	case i.Map != nil:
		i.Size = i.Map.ImageSize
	default:
		if i.Size, err = io.Copy(io.Discard, ctxio.Reader(ctx, i.content)); err != nil {
			return err
		}
	}
	if i.Map != nil && i.Map.ImageSize != i.Size {
		return fault.New(fault.BadInput, "it has %d bytes, its block map is for %d", i.Size, i.Map.ImageSize)
	}
	if i.Size == 0 {
		return fault.New(fault.BadInput, "it is empty")
	}
	return i.rewind()
}

// rewind goes to the beginning of the content.
func (i *Image) rewind() error {
	if i.content != nil {
		if err := i.content.Close(); err != nil {
			return err
		}
	}
	if _, err := i.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	content, err := decompress.Reader(i.file)
	if err != nil {
		i.content = io.NopCloser(nil)
		return err
	}
	i.content, i.packed = content, decompress.Compressed(content)
	return nil
}

// mapOf reads the block map beside an image.
func mapOf(image string) (*bmap.Map, error) {
	names := []string{image + ".bmap"}
	if ext := filepath.Ext(image); slices.Contains(suffixes, ext) {
		names = append(names, strings.TrimSuffix(image, ext)+".bmap")
	}
	for _, name := range names {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		defer f.Close()
		m, err := bmap.Read(f)
		return m, fault.Wrap(fault.BadInput, err, "reading %s", name)
	}
	return nil, nil
}

// ranges are the parts of the content to write. Without a map that is all of it, whose sum
// is not known.
func (i *Image) ranges() []part {
	if i.Map == nil {
		return []part{{end: i.Size}}
	}
	out := make([]part, len(i.Map.Ranges))
	for n, r := range i.Map.Ranges {
		out[n] = part{r.First * i.Map.BlockSize, min((r.Last+1)*i.Map.BlockSize, i.Size), r.Sum}
	}
	return out
}

// part is a range of bytes of the content, with its SHA-256 in hex, empty when it is not
// known.
type part struct {
	from, end int64
	sum       string
}

// source reads the content of an image forwards.
type source struct {
	image *Image
	at    int64
}

// skipTo goes forwards to an offset: a compressed image is decompressed up to there.
func (s *source) skipTo(at int64) error {
	var err error
	if s.image.packed {
		_, err = io.CopyN(io.Discard, s.image.content, at-s.at)
	} else {
		_, err = s.image.file.Seek(at, io.SeekStart)
	}
	s.at = at
	return err
}

// Read fills p.
func (s *source) Read(p []byte) (n int, err error) {
	if s.image.packed {
		n, err = io.ReadFull(s.image.content, p)
	} else {
		n, err = io.ReadFull(s.image.file, p)
	}
	s.at += int64(n)
	return n, err
}

// Package flash writes disk images to media: block devices and files. It reads images as
// they are and compressed (gzip, xz, zstd, bzip2, and zip where it is asked for), and the block
// map beside an image, with which it writes the mapped blocks alone and checks each range as it
// goes. Of an image without a map, its holes are left out.
//
// [Write] keeps this order, so that a medium holds a partition table only when all of the
// image is on it, and has been read back:
//
//  1. the size is checked, and that nothing uses the disk,
//  2. the table that is there is erased: the first MiB and the last 64 KiB; the first block
//     gets a mark that says that the medium is incomplete,
//  3. all blocks behind the first MiB are written and flushed,
//  4. the first MiB without its first block is written and flushed,
//  5. everything is read back from the medium, past the cache, and compared,
//  6. the first block takes the place of the mark, is flushed, read back and compared,
//  7. the kernel reads the new table.
//
// A write that has stopped is never taken up again: the next one begins with the first step.
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
var suffixes = []string{".xz", ".zst", ".gz", ".bz2", ".zip"}

// Image is an image that is open for one [Write].
type Image struct {
	// Path is the image's file.
	Path string
	// Size is that of the content, decompressed, in bytes.
	Size int64
	// Map is the block map, nil when there is none beside the image.
	Map *bmap.Map

	file    *os.File
	unpack  unpacker // nil for none
	content io.ReadCloser
	packed  bool
}

// unpacker opens the image in an archive. The reader is nil when the file is no archive of its
// kind; m is the map in the archive, nil for none.
type unpacker func(f *os.File) (content io.ReadCloser, m *bmap.Map, err error)

// Open opens an image and the block map beside it: NAME.bmap, where a suffix of
// compression may be left out of NAME. The size of a compressed image without a map is
// found by decompressing it once.
func Open(ctx context.Context, path string) (*Image, error) { return open(ctx, path, nil) }

func open(ctx context.Context, path string, u unpacker) (*Image, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.Missing, "opening the image: %s is not there", path)
	}
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "opening the image")
	}
	i := &Image{Path: path, file: f, unpack: u}
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
	if i.Map, _, err = MapOf(i.Path); err != nil {
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
			return damaged(err)
		}
	}
	if i.Map != nil && i.Map.ImageSize != i.Size {
		return fault.New(fault.BadInput, "it has %d bytes, its block map is for %d", i.Size, i.Map.ImageSize)
	}
	if i.Size == 0 {
		return fault.New(fault.BadInput, "it is empty")
	}
	if ext := filepath.Ext(i.Path); !i.packed && slices.Contains(suffixes, ext) {
		return fault.New(fault.BadInput, "its name ends with %s, and its content does not begin as such a file does: it is damaged", ext)
	}
	return i.rewind()
}

// rewind goes to the beginning of the content.
func (i *Image) rewind() error {
	if i.content != nil {
		if err := i.content.Close(); err != nil {
			return err
		}
		i.content = io.NopCloser(nil)
	}
	if _, err := i.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	from, archived, err := i.unpacked()
	if err != nil {
		return err
	}
	content, err := decompress.Reader(from)
	if err != nil {
		return errors.Join(err, from.Close())
	}
	i.content, i.packed = closers{content, from}, archived || decompress.Compressed(content)
	return nil
}

// unpacked returns the file, or what is in it when it is an archive.
func (i *Image) unpacked() (from io.ReadCloser, archived bool, err error) {
	if i.unpack == nil {
		return io.NopCloser(i.file), false, nil
	}
	from, m, err := i.unpack(i.file)
	if err != nil {
		return nil, false, err
	}
	if i.Map == nil {
		i.Map = m
	}
	if from == nil {
		return io.NopCloser(i.file), false, nil
	}
	return from, true, nil
}

// closers closes a reader and what it reads from.
type closers struct {
	io.ReadCloser
	from io.Closer
}

func (c closers) Close() error { return errors.Join(c.ReadCloser.Close(), c.from.Close()) }

// damaged marks an error of a decompressor: the file can be read, but is not what it should be.
func damaged(err error) error {
	var system *fs.PathError
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &system) {
		return err
	}
	return fault.New(fault.BadInput, "decompressing it: %w; it is damaged or was cut", err)
}

// MapOf reads the block map beside an image, and returns its name; the map is nil when there is
// none.
func MapOf(image string) (*bmap.Map, string, error) {
	names := []string{image + ".bmap"}
	if MapName(image) != names[0] {
		names = append(names, MapName(image))
	}
	for _, name := range names {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, "", err
		}
		defer f.Close()
		m, err := bmap.Read(f)
		return m, name, fault.Wrap(fault.BadInput, err, "reading %s", name)
	}
	return nil, "", nil
}

// MapName is the name of the block map of an image: that of a compressed one has not its suffix.
func MapName(image string) string {
	if ext := filepath.Ext(image); slices.Contains(suffixes, ext) {
		image = strings.TrimSuffix(image, ext)
	}
	return image + ".bmap"
}

// ranges are the parts of the content to write: those of the map, or else where the file has
// no holes, whose sums are not known. Whole is everything; what the map knows is compared there
// too.
func (i *Image) ranges(whole bool) []part {
	var out []part
	if i.Map != nil {
		for _, r := range i.Map.Ranges {
			out = append(out, part{r.First * i.Map.BlockSize, min((r.Last+1)*i.Map.BlockSize, i.Size), r.Sum})
		}
	} else if !i.packed && !whole {
		out = i.data()
	} else {
		return []part{{end: i.Size}}
	}
	if whole {
		out = i.between(out)
	}
	return out
}

// data are the parts of a file that are no holes, in whole blocks.
func (i *Image) data() []part {
	extents, err := bmap.Extents(i.file)
	if err != nil { // then there are none that are known
		return []part{{end: i.Size}}
	}
	var out []part
	for _, e := range extents {
		from := e.Offset - e.Offset%bmap.BlockSize
		end := min((e.Offset+e.Length+bmap.BlockSize-1)/bmap.BlockSize*bmap.BlockSize, i.Size)
		if n := len(out); n > 0 && out[n-1].end >= from {
			out[n-1].end = end
			continue
		}
		out = append(out, part{from: from, end: end})
	}
	return out
}

// between adds what lies between parts.
func (i *Image) between(parts []part) []part {
	var out []part
	at := int64(0)
	for _, p := range append(parts, part{from: i.Size, end: i.Size}) {
		if at < p.from {
			out = append(out, part{from: at, end: p.from})
		}
		if p.from < p.end {
			out = append(out, p)
		}
		at = p.end
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
func (s *source) skipTo(ctx context.Context, at int64) error {
	var err error
	if s.image.packed {
		_, err = io.CopyN(io.Discard, ctxio.Reader(ctx, s.image.content), at-s.at)
		err = s.reading(err)
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
		err = s.reading(err)
	} else {
		n, err = io.ReadFull(s.image.file, p)
	}
	s.at += int64(n)
	return n, err
}

// reading passes the end of the content on and marks what else is wrong with it.
func (s *source) reading(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return damaged(err)
}

// finish compares the checksum at the end of a compressed image without a map, and that it
// ends where it should.
func (s *source) finish() error {
	if !s.image.packed || s.at < s.image.Size {
		return nil
	}
	switch n, err := io.ReadFull(s.image.content, make([]byte, 1)); {
	case n > 0:
		return fault.New(fault.BadInput, "the image has more than %d bytes", s.image.Size)
	case errors.Is(err, io.EOF):
		return nil
	default:
		return damaged(err)
	}
}

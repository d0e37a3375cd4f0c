// Package inspect reads what the project makes, down to the bottom: an image, compressed or
// not, has partitions with file systems, these have files, and a file may be an archive, a
// file system or an export again. Compare says how two such things differ.
//
// The seam is [Node]: a name, attributes, content and, when it is asked for, what is inside. To
// add a format, add an entry to formats; to add what is said about changed files, such as the
// packages of a Debian system, an entry to details.
//
// Content that is equal is never looked into. Of sparse images only what is mapped is read.
// What is compressed is unpacked into a file without a name, of which blocks of zeros are
// holes; memory is bounded by the number of names in a file system or archive.
package inspect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pantavisor/pantavisor/formats/bmap"
	"github.com/pantavisor/pantavisor/formats/region"
	"github.com/pantavisor/pantavisor/formats/squashfs"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/formats/xz4"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Node is a thing: a disk, a partition, a file.
type Node struct {
	// Name is that among its neighbours: "partition 2", "trails/0/bsp/kernel.img".
	Name string
	// Attributes are what is said about it besides its content, in a fixed order.
	Attributes []Attribute
	// Content is nil for what has none, such as a directory.
	Content *Content

	part   string  // of the revision that it is in, where the name says so
	inside *Inside // of what has no content but parts: a directory of this machine
}

// Attribute is a property: mode, owner, label.
type Attribute struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	// Derived is set for what follows from the content of other things: identifiers and times
	// of file systems.
	Derived bool `json:"-"`
}

// Content is a run of bytes.
type Content struct {
	Size int64
	// At gives access to any part; nil for what can only be read from its start, with Open.
	At   io.ReaderAt
	Open func() (io.ReadCloser, error)
	// Data are the parts that are not zeros for sure, in order; nil is everything.
	Data []bmap.Extent
	// ID is the same for contents that are one file; empty when not known.
	ID string

	// member is set for a file of a squashfs, which can be compared as it is stored.
	member *squashfs.Member
	// from is where the content begins in the one that it is a part of, and known whether it does.
	from  int64
	known bool
	// blocks are those of the xz stream that it was unpacked from.
	blocks []xz4.Block
	// sum is the SHA-256 of content that is not at hand, in hex.
	sum string
}

// Inside is what is in a content of a known format.
type Inside struct {
	// Form is the name of the format: gpt, ext4, xz.
	Form string
	// Attributes are those of the whole.
	Attributes []Attribute
	// Nodes are the parts, sorted by name.
	Nodes []*Node

	regions func(context.Context, region.Add) error // describes it
}

// Reader opens things. Close it when nothing of them is used any more.
type Reader struct {
	open    []io.Closer
	systems int // file systems that were opened
	insides int // contents that were looked into
	// Bounds for tests; 0 stands for maxInsides and maxNames.
	most      int
	mostNames int64
}

// identity returns the function that names the files of one more file system by their inodes.
func (r *Reader) identity() func(inode uint32) string {
	r.systems++
	system := r.systems
	return func(inode uint32) string { return fmt.Sprint(system, ":", inode) }
}

// Close closes all files.
func (r *Reader) Close() error {
	return r.closeFrom(0)
}

// closeFrom closes the files that were opened since there were mark of them.
func (r *Reader) closeFrom(mark int) error {
	var all []error
	for _, c := range r.open[mark:] {
		all = append(all, c.Close())
	}
	clear(r.open[mark:])
	r.open = r.open[:mark]
	return errors.Join(all...)
}

// Open opens a file or a directory: an image, an export, a checkout.
func (r *Reader) Open(ctx context.Context, name string) (*Node, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fault.New(fault.Missing, "opening what to compare: %w", err)
	}
	if info.IsDir() {
		return r.directory(ctx, name)
	}
	if info.Mode()&(fs.ModeNamedPipe|fs.ModeSocket|fs.ModeCharDevice) != 0 { // it would be waited for
		return nil, fault.New(fault.BadInput, "opening what to compare: %s is neither a file, nor a directory, nor a block device", name)
	}
	if n, err := r.document(name); n != nil || err != nil {
		return n, err
	}
	c, err := r.file(name)
	if err != nil {
		return nil, err
	}
	return &Node{Name: filepath.Base(name), Content: c}, nil
}

// file opens a file of this machine.
func (r *Reader) file(name string) (*Content, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "opening what to compare")
	}
	r.open = append(r.open, f)
	return fileContent(f)
}

// fileContent returns the content of an open file, with its holes.
func fileContent(f *os.File) (*Content, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "looking up the size of %s", f.Name())
	}
	data, err := bmap.Extents(f)
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "reading %s", f.Name())
	}
	if data == nil {
		data = []bmap.Extent{} // all zeros
	}
	// The section makes what a damaged image says is outside of the file an io.EOF, as inside of
	// any other content; that of the file would be an error of this machine.
	return atContent(io.NewSectionReader(f, 0, size), size, data), nil
}

// atContent returns the content at byte 0 of r.
func atContent(r io.ReaderAt, size int64, data []bmap.Extent) *Content {
	return &Content{Size: size, At: r, Data: data, Open: func() (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(r, 0, size)), nil
	}}
}

// mapped returns the content of a file that is in runs of an image.
func mapped(m *region.Mapped) *Content {
	data := []bmap.Extent{}
	for _, r := range m.Runs() {
		if length := min(r.Length, m.Size()-r.Offset); length > 0 {
			data = append(data, bmap.Extent{Offset: r.Offset, Length: length})
		}
	}
	return atContent(m, m.Size(), data)
}

// mappedIn returns the content of a file that is in runs of c. Where c has no data, the file has
// none.
func (c *Content) mappedIn(m *region.Mapped) *Content {
	file := mapped(m)
	if c.Data == nil {
		return file
	}
	file.Data = []bmap.Extent{}
	for _, r := range m.Runs() {
		length := min(r.Length, m.Size()-r.Offset)
		for _, e := range c.within(r.From, length) {
			file.Data = append(file.Data, bmap.Extent{Offset: e.Offset - r.From + r.Offset, Length: e.Length})
		}
	}
	return file
}

// within returns the data in a range of the content.
func (c *Content) within(from, length int64) (out []bmap.Extent) {
	first, _ := slices.BinarySearchFunc(c.Data, from, func(e bmap.Extent, at int64) int {
		if e.Offset+e.Length <= at {
			return -1
		}
		return 1
	})
	for _, e := range c.Data[first:] {
		start, end := max(e.Offset, from), min(e.Offset+e.Length, from+length)
		if start >= end {
			break
		}
		out = append(out, bmap.Extent{Offset: start, Length: end - start})
	}
	return out
}

// part returns a part of a content that can be read anywhere.
func (c *Content) part(from, size int64) *Content {
	size = max(min(size, c.Size-from), 0)
	var data []bmap.Extent
	if c.Data != nil {
		data = []bmap.Extent{}
		for _, e := range c.within(from, size) {
			data = append(data, bmap.Extent{Offset: e.Offset - from, Length: e.Length})
		}
	}
	p := atContent(io.NewSectionReader(c.At, from, size), size, data)
	p.from, p.known = from, true
	return p
}

// runs returns a content of size bytes that has runs of this one, and zeros between them.
func (c *Content) runs(size int64, runs []region.Run) *Content {
	data := []bmap.Extent{}
	for _, r := range runs {
		own := c.part(r.From, r.Length).Data
		if c.Data == nil {
			own = []bmap.Extent{{Length: r.Length}}
		}
		for _, e := range own {
			data = append(data, bmap.Extent{Offset: r.Offset + e.Offset, Length: e.Length})
		}
	}
	return atContent(region.NewMapped(c.At, size, runs), size, data)
}

// attributes returns those of an entry of a file system or archive.
func attributes(e *tree.Entry) []Attribute {
	out := []Attribute{{Name: "mode", Value: fmt.Sprintf("%v", e.Mode)}, {Name: "owner", Value: fmt.Sprintf("%d:%d", e.UID, e.GID)}}
	add := func(name, value string) { out = append(out, Attribute{Name: name, Value: value}) }
	if e.Link != "" {
		add("link", e.Link)
	}
	if e.HardLink != "" {
		add("same file as", e.HardLink)
	}
	if e.Mode&os.ModeDevice != 0 {
		add("device", fmt.Sprintf("%d:%d", e.Major, e.Minor))
	}
	add("time", e.ModTime.UTC().Format("2006-01-02T15:04:05.999999999Z"))
	names := make([]string, 0, len(e.Xattrs))
	for name := range e.Xattrs {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		add(name, strconv.QuoteToASCII(string(e.Xattrs[name])))
	}
	return out
}

// short returns a text without the line ends that would break a table, cut to a length.
func short(text string) string {
	const most = 120
	text = strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, text)
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}

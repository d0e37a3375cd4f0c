package inspect

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/pantavisor/pantavisor/formats/bmap"
	"github.com/pantavisor/pantavisor/internal/cell"
	"github.com/pantavisor/pantavisor/internal/decompress"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Sort is what a thing with a size is.
type Sort string

// The sorts.
const (
	SortDisk      Sort = "medium"
	SortPartition Sort = "partition"
	SortDirectory Sort = "directory"
	SortArchive   Sort = "archive" // a file system or archive that is a file
	SortKernel    Sort = "kernel"
	SortModule    Sort = "module"
	SortFirmware  Sort = "firmware"
	SortProgram   Sort = "program"
	SortLibrary   Sort = "library"
	SortCode      Sort = "code" // a package of a Go program, or another part of a program
	SortFile      Sort = "file"
	// SortRest is what a file system or archive needs for itself: tables, journals, headers.
	SortRest Sort = "overhead"
)

// Sized is a thing with its size, and what is in it.
type Sized struct {
	// Name is that in what it is in.
	Name string `json:"name"`
	Sort Sort   `json:"sort"`
	// Bytes is what it takes on the medium: compressed, where it is in a compressed file system or
	// archive. In a stream without files of their own it is the share by the unpacked size.
	Bytes int64 `json:"bytes"`
	// Unpacked is the size of the content. Of a directory it is the sum.
	Unpacked int64 `json:"unpacked"`
	// Package is the package of a distribution that a file is of, where the file system has a
	// database of them.
	Package string `json:"package,omitempty"`
	// Problem is why it was not looked into.
	Problem string `json:"problem,omitempty"`
	// Parts are sorted by size, the largest first. Their sizes sum up to Bytes.
	Parts []*Sized `json:"parts,omitempty"`
}

// Bounds of what is looked into for sizes.
const (
	minInside    = 2 << 10  // smaller contents are not looked into
	minMember    = 32 << 10 // smaller ones in a compressed file system are not
	maxProgram   = 256 << 20
	maxDirectory = 24 // directories in each other that are told apart
	maxDatabase  = 16 << 20
)

// Sizes returns what a thing and all that is in it take. A disk image takes the blocks that are not
// all zeros, whether the file of it has holes or not. A compressed image or export has the sizes of
// what it unpacks to, any other file its own.
func (r *Reader) Sizes(ctx context.Context, n *Node) (*Sized, error) {
	s := sizer{Reader: r}
	for range maxOuter {
		f, err := formatOf(n.Content)
		if err != nil {
			return nil, err
		}
		if f != nil && f.name == "disk" {
			return s.disk(ctx, n)
		}
		if f == nil || !packs(f.name, n.Content) {
			break
		}
		inside, err := r.inside(ctx, n)
		if err != nil {
			return nil, err
		}
		n = &Node{Name: n.Name, Content: inside.Nodes[0].Content}
	}
	n = plain(n)
	bytes := n.Content.stored()
	if n.inside != nil {
		for _, p := range n.inside.Nodes {
			bytes += p.Content.stored()
		}
	}
	out, err := s.node(ctx, n, bytes, 0)
	if err != nil {
		return nil, err
	}
	if out.Problem != "" && len(out.Parts) == 0 {
		return nil, fault.New(fault.BadInput, "looking into %s: %s", cell.Printable(n.Name), out.Problem)
	}
	return out, ctx.Err()
}

// packs reports whether a content is a compressed image or archive.
func packs(form string, c *Content) bool {
	if c.At == nil || !slices.Contains([]string{"gzip", "xz", "zstd", "bzip2"}, form) {
		return false
	}
	f, err := formatOf(&Content{Size: maxSpool, Open: func() (io.ReadCloser, error) {
		return decompress.Reader(io.NewSectionReader(c.At, 0, c.Size))
	}})
	return err == nil && f != nil && (f.name == "disk" || f.name == "tar")
}

// disk measures a medium.
func (s *sizer) disk(ctx context.Context, n *Node) (*Sized, error) {
	if err := n.Content.tighten(ctx); err != nil {
		return nil, err
	}
	return s.node(ctx, n, n.Content.stored(), 0)
}

// plain returns a thing whose files have their whole sizes: holes of a file are a matter of the file
// system of this machine that it is in.
func plain(n *Node) *Node {
	out := *n
	if n.Content != nil {
		content := *n.Content
		content.Data = nil
		out.Content = &content
	}
	if n.inside != nil {
		inside := *n.inside
		inside.Nodes = nil
		for _, one := range n.inside.Nodes {
			inside.Nodes = append(inside.Nodes, plain(one))
		}
		out.inside = &inside
	}
	return &out
}

// tighten finds the blocks with data, with which Data then agrees.
func (c *Content) tighten(ctx context.Context) error {
	if c.At == nil {
		return errors.New("its blocks cannot be read one by one")
	}
	const piece = 1 << 20
	buf := make([]byte, piece)
	zeros := make([]byte, bmap.BlockSize)
	data := []bmap.Extent{}
	all := c.Data
	if all == nil {
		all = []bmap.Extent{{Length: c.Size}}
	}
	done := int64(0) // blocks before it were looked at
	for _, e := range all {
		at := max(done, e.Offset/bmap.BlockSize*bmap.BlockSize)
		end := min((e.Offset+e.Length+bmap.BlockSize-1)/bmap.BlockSize*bmap.BlockSize, c.Size)
		for at < end {
			if err := ctx.Err(); err != nil {
				return err
			}
			n, err := c.At.ReadAt(buf[:min(piece, end-at)], at)
			if n == 0 && err != nil {
				return err
			}
			for from := 0; from < n; from += bmap.BlockSize {
				block := buf[from:min(from+bmap.BlockSize, n)]
				if string(block) == string(zeros[:len(block)]) {
					continue
				}
				data = appendExtent(data, at+int64(from), int64(len(block)))
			}
			at += int64(n)
			done = at
		}
	}
	c.Data = data
	return nil
}

// appendExtent adds a run of data that follows the others.
func appendExtent(data []bmap.Extent, at, length int64) []bmap.Extent {
	if n := len(data); n > 0 && data[n-1].Offset+data[n-1].Length == at {
		data[n-1].Length += length
		return data
	}
	return append(data, bmap.Extent{Offset: at, Length: length})
}

// stored returns how many bytes a content takes in what it is a part of, 0 for nil.
func (c *Content) stored() int64 {
	switch {
	case c == nil:
		return 0
	case c.member != nil:
		return c.member.Stored()
	case c.Data == nil:
		return c.Size
	}
	sum := int64(0)
	for _, e := range c.Data {
		sum += e.Length
	}
	return sum
}

// packed returns how many bytes of the stream that the content was unpacked from a range takes.
func (c *Content) packed(from, length int64) float64 {
	sum, at := 0.0, int64(0)
	for _, b := range c.blocks {
		size := int64(b.Uncompressed)
		if common := min(at+size, from+length) - max(at, from); common > 0 {
			sum += float64(b.Unpadded) * float64(common) / float64(size)
		}
		at += size
	}
	return sum
}

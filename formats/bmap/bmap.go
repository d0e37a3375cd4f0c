// Package bmap writes, reads and checks block maps: the XML file beside a sparse
// image that names the blocks which hold data, with checksums, so that a flasher
// writes nothing else.
//
// Format: bmap-tools, version 2.0 ("bmaptool copy"). Ranges are inclusive block
// numbers; sums are SHA-256. The sum of the file itself is taken with that sum's
// own digits replaced by zeros.
package bmap

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/pantavisor/pantavisor/internal/bounded"
)

// BlockSize is the size in bytes of the blocks that [Create] counts.
const BlockSize = 4096

// maxMap bounds the bytes of a map that is read, maxRanges the ranges of one that is
// made, each of which takes up to 142 bytes. maxLength is the most blocks of a range that is
// made: a change of the image needs a new checksum of a range, which must not be most of it.
const (
	maxMap    = 64 << 20
	maxRanges = 450_000
	maxLength = 16 << 20 / BlockSize
)

// ErrFormat is wrapped by every error about bytes that are not a block map of
// version 2; ErrSum by those about content that differs from its checksum.
var (
	ErrFormat = errors.New("not a block map of version 2.0")
	ErrSum    = errors.New("content differs from its checksum")
)

// Range is a range of blocks, First to Last inclusive.
type Range struct {
	First, Last int64
	// Sum is the SHA-256 of the content in hex.
	Sum string
}

// Map is a block map.
type Map struct {
	// ImageSize and BlockSize are in bytes.
	ImageSize, BlockSize int64
	// Ranges are in order and have no block in common.
	Ranges []Range
}

// Blocks returns the number of blocks of the image; the last one may be shorter.
func (m *Map) Blocks() int64 { return (m.ImageSize + m.BlockSize - 1) / m.BlockSize }

// Mapped returns the number of blocks with data.
func (m *Map) Mapped() int64 {
	var n int64
	for _, r := range m.Ranges {
		n += r.Last - r.First + 1
	}
	return n
}

// Extent is a run of Length bytes at Offset.
type Extent struct{ Offset, Length int64 }

// Create makes the map of an image of size bytes whose data is in the extents,
// in any order; they are widened to whole blocks, joined, and divided into ranges of up to
// 16 MiB. It reads the data for the checksums.
func Create(ctx context.Context, image io.ReaderAt, size int64, data []Extent) (*Map, error) {
	m := &Map{ImageSize: size, BlockSize: BlockSize}
	ranges := divide(join(data))
	if len(ranges) > maxRanges {
		return nil, fmt.Errorf("mapping an image whose data is in %d pieces: a map has up to %d: %w", len(ranges), maxRanges, errors.ErrUnsupported)
	}
	for _, r := range ranges {
		if r.First < 0 || r.Last >= m.Blocks() {
			return nil, fmt.Errorf("mapping blocks %d-%d: image has %d", r.First, r.Last, m.Blocks())
		}
		sum, err := m.sum(ctx, image, r)
		if err != nil {
			return nil, fmt.Errorf("reading blocks %d-%d: %w", r.First, r.Last, err)
		}
		r.Sum = sum
		m.Ranges = append(m.Ranges, r)
	}
	return m, nil
}

// divide makes several ranges of one that is too long.
func divide(ranges []Range) []Range {
	out := make([]Range, 0, len(ranges))
	for _, r := range ranges {
		for r.Last-r.First >= maxLength {
			out = append(out, Range{First: r.First, Last: r.First + maxLength - 1})
			r.First += maxLength
		}
		out = append(out, r)
	}
	return out
}

func join(data []Extent) []Range {
	sorted := slices.SortedFunc(slices.Values(data), func(a, b Extent) int { return int(min(max(a.Offset-b.Offset, -1), 1)) })
	var out []Range
	for _, e := range sorted {
		if e.Length <= 0 {
			continue
		}
		r := Range{First: e.Offset / BlockSize, Last: (e.Offset + e.Length - 1) / BlockSize}
		if n := len(out); n > 0 && r.First <= out[n-1].Last+1 {
			out[n-1].Last = max(out[n-1].Last, r.Last)
			continue
		}
		out = append(out, r)
	}
	return out
}

// Verify reads an image and compares every range with its checksum.
func (m *Map) Verify(ctx context.Context, image io.ReaderAt) error {
	for _, r := range m.Ranges {
		sum, err := m.sum(ctx, image, r)
		if err != nil {
			return fmt.Errorf("reading blocks %d-%d: %w", r.First, r.Last, err)
		}
		if sum != r.Sum {
			return fmt.Errorf("checking blocks %d-%d: %w", r.First, r.Last, ErrSum)
		}
	}
	return nil
}

// Covers returns an error that names a block of the extents that the map leaves out, nil when it
// leaves none out.
func (m *Map) Covers(extents []Extent) error {
	for _, e := range extents {
		first, last := e.Offset/m.BlockSize, (e.Offset+e.Length-1)/m.BlockSize
		for _, r := range m.Ranges {
			if r.First <= first && first <= r.Last {
				first = r.Last + 1
			}
		}
		if first <= last {
			return fmt.Errorf("changing blocks up to %d: the map leaves block %d out", last, first)
		}
	}
	return nil
}

// Update makes the checksums those of an image that was changed in the extents. Extents that the
// map leaves out are an error: a flasher would not write them.
func (m *Map) Update(ctx context.Context, image io.ReaderAt, changed []Extent) error {
	if err := m.Covers(changed); err != nil {
		return err
	}
	for i, r := range m.Ranges {
		hit := func(e Extent) bool {
			return e.Offset/m.BlockSize <= r.Last && (e.Offset+e.Length-1)/m.BlockSize >= r.First
		}
		if !slices.ContainsFunc(changed, hit) {
			continue
		}
		sum, err := m.sum(ctx, image, r)
		if err != nil {
			return fmt.Errorf("reading blocks %d-%d: %w", r.First, r.Last, err)
		}
		m.Ranges[i].Sum = sum
	}
	return nil
}

func (m *Map) sum(ctx context.Context, image io.ReaderAt, r Range) (string, error) {
	end := min((r.Last+1)*m.BlockSize, m.ImageSize)
	section := io.NewSectionReader(image, r.First*m.BlockSize, end-r.First*m.BlockSize)
	h, buf := sha256.New(), make([]byte, 256<<10)
	for {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := section.Read(buf)
		h.Write(buf[:n])
		if err == io.EOF {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
	}
}

const unsummed = "0000000000000000000000000000000000000000000000000000000000000000"

// Encode returns the map as a file.
func (m *Map) Encode() []byte {
	var b bytes.Buffer
	b.WriteString("<?xml version=\"1.0\" ?>\n<bmap version=\"2.0\">\n")
	field := func(name string, value any) { fmt.Fprintf(&b, "    <%s> %v </%s>\n", name, value, name) }
	field("ImageSize", m.ImageSize)
	field("BlockSize", m.BlockSize)
	field("BlocksCount", m.Blocks())
	field("MappedBlocksCount", m.Mapped())
	field("ChecksumType", "sha256")
	field("BmapFileChecksum", unsummed)
	b.WriteString("    <BlockMap>\n")
	for _, r := range m.Ranges {
		fmt.Fprintf(&b, "        <Range chksum=\"%s\"> %s </Range>\n", r.Sum, r.text())
	}
	b.WriteString("    </BlockMap>\n</bmap>\n")
	sum := sha256.Sum256(b.Bytes())
	return bytes.Replace(b.Bytes(), []byte(unsummed), []byte(hex.EncodeToString(sum[:])), 1)
}

func (r Range) text() string {
	if r.First == r.Last {
		return strconv.FormatInt(r.First, 10)
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

type file struct {
	Version  string   `xml:"version,attr"`
	Image    string   `xml:"ImageSize"`
	Block    string   `xml:"BlockSize"`
	Count    string   `xml:"BlocksCount"`
	Mapped   string   `xml:"MappedBlocksCount"`
	SumType  string   `xml:"ChecksumType"`
	Checksum string   `xml:"BmapFileChecksum"`
	Ranges   []record `xml:"BlockMap>Range"`
}

type record struct {
	Sum  string `xml:"chksum,attr"`
	Text string `xml:",chardata"`
}

// Read reads a map of version 2 and checks the file's own checksum and that its
// numbers agree with each other.
func Read(r io.Reader) (*Map, error) {
	raw, err := bounded.Read(r, maxMap)
	if errors.Is(err, bounded.LimitError(maxMap)) {
		return nil, fmt.Errorf("reading block map: %w: %w", ErrFormat, err)
	}
	if err != nil {
		return nil, fmt.Errorf("reading block map: %w", err)
	}
	var f file
	if err := xml.Unmarshal(raw, &f); err != nil {
		return nil, fmt.Errorf("reading block map: %w: %w", ErrFormat, err)
	}
	if !strings.HasPrefix(f.Version, "2.") || strings.TrimSpace(f.SumType) != "sha256" {
		return nil, fmt.Errorf("reading block map of version %q with sums %q: %w", f.Version, f.SumType, ErrFormat)
	}
	if err := checkFile(raw, strings.TrimSpace(f.Checksum)); err != nil {
		return nil, err
	}
	return f.resolve()
}

func checkFile(raw []byte, sum string) error {
	if len(sum) != len(unsummed) {
		return fmt.Errorf("reading block map: checksum has %d digits: %w", len(sum), ErrFormat)
	}
	got := sha256.Sum256(bytes.Replace(raw, []byte(sum), []byte(unsummed), 1))
	if hex.EncodeToString(got[:]) != sum {
		return fmt.Errorf("checking the block map: %w", ErrSum)
	}
	return nil
}

func (f *file) resolve() (*Map, error) {
	size, err1 := number(f.Image)
	block, err2 := number(f.Block)
	count, err3 := number(f.Count)
	mapped, err4 := number(f.Mapped)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, err
	}
	m := &Map{ImageSize: size, BlockSize: block}
	if block < 1 || block > 1<<30 || size > 1<<62 || m.Blocks() != count {
		return nil, fmt.Errorf("reading block map: %d bytes in %d blocks of %d: %w", size, count, block, ErrFormat)
	}
	next := int64(0)
	for _, rec := range f.Ranges {
		r, err := rec.parse()
		if err != nil || r.First < next || r.Last < r.First || r.Last >= count {
			return nil, fmt.Errorf("reading block range %q: %w", rec.Text, ErrFormat)
		}
		m.Ranges, next = append(m.Ranges, r), r.Last+1
	}
	if m.Mapped() != mapped {
		return nil, fmt.Errorf("reading block map: %d blocks in ranges, not %d: %w", m.Mapped(), mapped, ErrFormat)
	}
	return m, nil
}

func (rec record) parse() (Range, error) {
	first, last, isRange := strings.Cut(strings.TrimSpace(rec.Text), "-")
	if !isRange {
		last = first
	}
	a, err1 := number(first)
	b, err2 := number(last)
	return Range{First: a, Last: b, Sum: strings.ToLower(rec.Sum)}, errors.Join(err1, err2)
}

func number(text string) (int64, error) {
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 63)
	if err != nil {
		return 0, fmt.Errorf("reading block map: %q is not a number: %w", text, ErrFormat)
	}
	return int64(n), nil
}

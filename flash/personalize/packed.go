package personalize

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/klauspost/compress/zstd"

	"github.com/pantavisor/pantavisor/formats/personal"
	"github.com/pantavisor/pantavisor/formats/xz4"
	"github.com/pantavisor/pantavisor/formats/xzenc"
	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/ctxio"
	"github.com/pantavisor/pantavisor/internal/decompress"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/scratch"
)

// packing is a form of compression whose files have pieces that are compressed by themselves, as
// those that the build makes. Only the pieces that are changed are compressed anew.
type packing struct {
	magic string
	// split returns the pieces of a file.
	split func(f *os.File, size int64) ([]piece, error)
	// pack compresses a piece, in parts of so many bytes if the form can be in parts.
	pack func(ctx context.Context, to io.Writer, from io.Reader, part int) error
	// join writes pieces as a file.
	join func(to io.Writer, pieces []piece) error
}

// piece is a part of an image, compressed by itself.
type piece struct {
	io.ReaderAt
	size  int64 // compressed
	plain int64 // of what is in it
}

// Bounds on pieces: on the memory that they need, and on files that are no more than pieces.
const (
	maxPiece  = 64 << 20
	maxPieces = 1 << 20
	pieceSize = 16 << 20 // of files that are compressed anew
	partSize  = 1 << 20  // of a piece that is changed: all cores have work, and the next change less
)

var packings = []packing{
	{"\xfd7zXZ\x00", splitXZ, packXZ, joinXZ},
	{"\x28\xb5\x2f\xfd", splitZstd, packZstd, joinZstd},
}

// unpackFirst are forms of files that are read, but not written.
var unpackFirst = map[string]string{"\x1f\x8b": "gzip", "BZh": "bzip2", "PK\x03\x04": "zip"}

// compression returns how a file is compressed, nil for one that is not.
func compression(path string) (*packing, error) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return nil, nil //nolint:nilerr // opening it tells why
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head := make([]byte, 8)
	if _, err := io.ReadFull(f, head); err != nil {
		return nil, nil //nolint:nilerr // it is too short for an image, which is told later
	}
	for i := range packings {
		if bytes.HasPrefix(head, []byte(packings[i].magic)) {
			return &packings[i], nil
		}
	}
	for magic, name := range unpackFirst {
		if bytes.HasPrefix(head, []byte(magic)) {
			return nil, fault.New(fault.Unsupported, "it has the form %s: unpack it first, or take xz or zstd", name)
		}
	}
	return nil, nil
}

// changePacked makes a changed compressed image, in the place of the old one or at to.
func changePacked(ctx context.Context, p *packing, path, to string, change func(personal.Settings) (personal.Settings, error)) (*Result, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	result, mode, isCopy := to, fs.FileMode(copyMode), to != ""
	if !isCopy { // of a link, the file that it leads to is changed
		if to, err = filepath.EvalSymlinks(path); err != nil {
			return nil, err
		}
		result, mode = path, info.Mode().Perm()
	}
	table, err := readMap(path, result)
	if err != nil {
		return nil, err
	}
	pieces, err := p.split(f, info.Size())
	if err != nil || !small(pieces) {
		anew, done, err := p.again(ctx, f, filepath.Dir(to))
		if err != nil {
			return nil, err
		}
		defer done.Close()
		pieces = anew
	}
	image := &packedImage{pieces: pieces, plain: map[int][]byte{}, changed: map[int]bool{}}
	at, err := changeMedium(ctx, image, image.size(), table, change)
	if err != nil {
		return nil, err
	}
	for i := range image.changed {
		var b bytes.Buffer
		if err := p.pack(ctx, &b, bytes.NewReader(image.plain[i]), partSize); err != nil {
			return nil, err
		}
		pieces[i] = piece{bytes.NewReader(b.Bytes()), int64(b.Len()), pieces[i].plain}
	}
	out, err := atomicfile.Create(to, mode)
	if err != nil {
		return nil, err
	}
	defer out.Abort()
	if err := p.join(out, pieces); err != nil {
		return nil, err
	}
	return finish(out, table, &Result{Path: result, Partition: at.partition}, isCopy)
}

// small reports whether pieces are such that a few of them can be in memory.
func small(pieces []piece) bool {
	for _, p := range pieces {
		if p.plain > maxPiece {
			return false
		}
	}
	return len(pieces) > 0 && len(pieces) < maxPieces
}

// again compresses an image of other pieces anew, into a file without a name, which must be closed
// after the last use of the pieces.
func (p *packing) again(ctx context.Context, f *os.File, dir string) ([]piece, io.Closer, error) {
	to, err := scratch.Unnamed(dir, "piece")
	if err != nil {
		return nil, nil, err
	}
	pieces, err := p.pieces(ctx, to, f)
	if err != nil {
		return nil, nil, errors.Join(err, to.Close())
	}
	return pieces, to, nil
}

// pieces compresses the content of a compressed file anew, into another one.
func (p *packing) pieces(ctx context.Context, to, f *os.File) ([]piece, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	plain, err := decompress.Reader(f)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	var pieces []piece
	for at := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		source := &counted{r: io.LimitReader(plain, pieceSize)}
		if err := p.pack(ctx, to, source, pieceSize); err != nil {
			return nil, fault.Wrap(fault.BadInput, err, "compressing it anew")
		}
		end, err := to.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		if source.n == 0 {
			return pieces, nil
		}
		pieces = append(pieces, piece{io.NewSectionReader(to, at, end-at), end - at, source.n})
		at = end
	}
}

// counted counts what is read.
type counted struct {
	r io.Reader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// packedImage is an image that is decompressed where it is looked at.
type packedImage struct {
	pieces  []piece
	plain   map[int][]byte // those that are in memory
	changed map[int]bool
	recent  []int // in memory, the last one used last; those that are changed stay for good
}

var _ interface {
	io.ReaderAt
	io.WriterAt
} = (*packedImage)(nil)

func (m *packedImage) size() int64 {
	n := int64(0)
	for _, p := range m.pieces {
		n += p.plain
	}
	return n
}

// kept is how many pieces stay in memory, besides those that are changed.
const kept = 3

// piece returns the content of a piece.
func (m *packedImage) piece(i int) ([]byte, error) {
	if b, ok := m.plain[i]; ok {
		m.used(i)
		return b, nil
	}
	r, err := decompress.Reader(io.NewSectionReader(m.pieces[i], 0, m.pieces[i].size))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := bounded.Read(r, maxPiece)
	if err == nil && int64(len(b)) != m.pieces[i].plain {
		err = fmt.Errorf("it has %d bytes, not %d", len(b), m.pieces[i].plain)
	}
	if err != nil {
		return nil, fault.New(fault.BadInput, "decompressing piece %d of it: %w; it is damaged", i, err)
	}
	m.plain[i] = b
	m.used(i)
	return b, nil
}

// used makes a piece the last one used, and forgets the one that was not used for longest.
func (m *packedImage) used(i int) {
	m.recent = append(slices.DeleteFunc(m.recent, func(old int) bool { return old == i || m.changed[old] }), i)
	if len(m.recent) > kept {
		delete(m.plain, m.recent[0])
		m.recent = m.recent[1:]
	}
}

// each calls do with the part of each piece that a range is in.
func (m *packedImage) each(n int, off int64, do func(i int, b []byte, done int)) (int, error) {
	done, start := 0, int64(0)
	for i, p := range m.pieces {
		at := off + int64(done)
		if at >= start && at < start+p.plain && done < n {
			b, err := m.piece(i)
			if err != nil {
				return done, err
			}
			part := b[at-start : min(p.plain, at-start+int64(n-done))]
			do(i, part, done)
			done += len(part)
		}
		start += p.plain
	}
	if done < n {
		return done, io.EOF
	}
	return done, nil
}

// ReadAt reads from the image.
func (m *packedImage) ReadAt(p []byte, off int64) (int, error) {
	return m.each(len(p), off, func(_ int, b []byte, done int) { copy(p[done:], b) })
}

// WriteAt changes the image in memory.
func (m *packedImage) WriteAt(p []byte, off int64) (int, error) {
	return m.each(len(p), off, func(i int, b []byte, done int) {
		copy(b, p[done:])
		m.changed[i] = true
	})
}

func splitXZ(f *os.File, size int64) ([]piece, error) {
	streams, blocks, err := xz4.Split(xz4.Input{ReaderAt: f, Size: size})
	if err != nil {
		return nil, err
	}
	out := make([]piece, len(streams))
	for i, s := range streams {
		out[i] = piece{s, s.Size, int64(blocks[i].Uncompressed)}
	}
	return out, nil
}

func packXZ(ctx context.Context, to io.Writer, from io.Reader, part int) error {
	z, err := xzenc.NewWriter(ctx, to, xzenc.Options{Check: xzenc.CRC32, Block: part})
	if err != nil {
		return err
	}
	if _, err := io.Copy(z, from); err != nil {
		return err
	}
	return z.Close()
}

func joinXZ(to io.Writer, pieces []piece) error {
	var in []xz4.Input
	for _, p := range pieces {
		in = append(in, xz4.Input{ReaderAt: p, Size: p.size})
	}
	return xz4.Join(to, in...)
}

func packZstd(ctx context.Context, to io.Writer, from io.Reader, _ int) error {
	z, err := zstd.NewWriter(to, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(8<<20))
	if err != nil {
		return err
	}
	if _, err := io.Copy(z, ctxio.Reader(ctx, from)); err != nil {
		return err
	}
	return z.Close()
}

func joinZstd(to io.Writer, pieces []piece) error {
	for _, p := range pieces {
		if _, err := io.Copy(to, io.NewSectionReader(p, 0, p.size)); err != nil {
			return err
		}
	}
	return nil
}

// splitZstd finds the frames of a file, and decompresses those that do not say what they hold:
// equal ones once.
func splitZstd(f *os.File, size int64) ([]piece, error) {
	var out []piece
	known := map[string]int64{}
	for at := int64(0); at < size; {
		n, plain, err := frame(io.NewSectionReader(f, at, size-at))
		if err != nil {
			return nil, fmt.Errorf("reading the frame at byte %d: %w", at, err)
		}
		p := piece{io.NewSectionReader(f, at, n), n, plain}
		if plain < 0 {
			if p.plain, err = unknown(p, known); err != nil {
				return nil, err
			}
		}
		out, at = append(out, p), at+n
	}
	return out, nil
}

// unknown returns what a frame holds.
func unknown(p piece, known map[string]int64) (int64, error) {
	const short = 4096 // those of zeros
	key := ""
	if p.size <= short {
		b := make([]byte, p.size)
		if _, err := p.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		key = string(b)
		if n, ok := known[key]; ok {
			return n, nil
		}
	}
	r, err := decompress.Reader(io.NewSectionReader(p, 0, p.size))
	if err != nil {
		return 0, err
	}
	defer r.Close()
	n, err := io.Copy(io.Discard, io.LimitReader(r, maxPiece+1))
	if key != "" {
		known[key] = n
	}
	return n, err
}

// frame returns the length of a frame of zstd (RFC 8878, section 3.1.1), and of what is in it: -1
// when it does not say.
func frame(r *io.SectionReader) (n, plain int64, err error) {
	head := make([]byte, zstd.HeaderMaxSize)
	k, err := r.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, 0, err
	}
	var h zstd.Header
	if err := h.Decode(head[:k]); err != nil {
		return 0, 0, err
	}
	if h.Skippable {
		return 0, 0, errors.New("it is not data")
	}
	plain = -1
	if h.HasFCS {
		plain = int64(h.FrameContentSize)
	}
	const rle, reserved = 1, 3
	for n = int64(h.HeaderSize); ; {
		b := make([]byte, 3)
		if _, err := r.ReadAt(b, n); err != nil {
			return 0, 0, err
		}
		block := int64(b[0]) | int64(b[1])<<8 | int64(b[2])<<16
		kind, length := block>>1&3, block>>3
		switch kind {
		case rle:
			length = 1
		case reserved:
			return 0, 0, errors.New("it has a block of an unknown kind")
		}
		n += 3 + length
		if block&1 != 0 {
			break
		}
	}
	if h.HasCheckSum {
		n += 4
	}
	if n > r.Size() {
		return 0, 0, io.ErrUnexpectedEOF
	}
	return n, plain, nil
}

// showPacked reads the settings of a compressed image.
func showPacked(ctx context.Context, p *packing, path string) (personal.Settings, error) {
	f, err := os.Open(path)
	if err != nil {
		return personal.Settings{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return personal.Settings{}, err
	}
	pieces, err := p.split(f, info.Size())
	if err != nil || !small(pieces) {
		return personal.Settings{}, fault.New(fault.Unsupported, "it is compressed as a whole: unpack it first")
	}
	image := &packedImage{pieces: pieces, plain: map[int][]byte{}, changed: map[int]bool{}}
	at, err := locate(ctx, image, image.size())
	if err != nil {
		return personal.Settings{}, err
	}
	return personal.Read(at)
}

// Package archive reads and writes exports: a state with its objects in one tar
// stream, usually compressed (manual: pvr export and import).
//
//	json            the state, always the first member of those written here
//	objects/<sum>   each object
//
// An archive is treated as hostile: names, types, sizes and hashes are checked,
// memory is bounded, and nothing becomes visible unless the whole archive is valid.
package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"strings"
	"time"

	"github.com/klauspost/pgzip"

	"github.com/pantavisor/pantavisor/internal/atomicfile/direct"
	"github.com/pantavisor/pantavisor/internal/decompress"
	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
)

// ErrArchive is wrapped by the errors for archives that are damaged or hostile.
var ErrArchive = errors.New("unusable archive")

// ExportOptions select what an export holds.
type ExportOptions struct {
	// Parts selects parts by name; none selects all. "#spec" is always included.
	Parts []string
	// Gzip compresses the archive.
	Gzip bool
	// Time is the modification time of all members; zero for 1970.
	Time time.Time
}

// Export writes a state and its objects. Equal states give equal bytes: objects
// are sorted, each is written once, and modes and times are fixed. Every object is
// verified; a missing or damaged one is an error, and the output is then unusable.
func Export(ctx context.Context, w io.Writer, st *state.State, store *objects.Store, opt ExportOptions) error {
	if opt.Time.IsZero() {
		opt.Time = time.Unix(0, 0)
	}
	if len(opt.Parts) > 0 {
		st = st.Select(opt.Parts...)
	}
	buffered := bufio.NewWriterSize(w, 1<<16)
	var out io.WriteCloser = nopCloser{buffered}
	if opt.Gzip {
		var err error
		if out, err = compressor(buffered); err != nil {
			return fmt.Errorf("exporting: %w", err)
		}
	}
	e := &exporter{tar.NewWriter(out), store, opt.Time.Truncate(time.Second)}
	if err := e.all(ctx, st); err != nil {
		return fmt.Errorf("exporting: %w", err)
	}
	for _, end := range []func() error{e.tar.Close, out.Close, buffered.Flush} {
		if err := end(); err != nil {
			return fmt.Errorf("writing the export: %w", err)
		}
	}
	return nil
}

// Blocks of zipBlock bytes are compressed at the same time, at most zipBlocks of
// them because each takes 2 MiB of memory. The output depends on the
// size alone.
const (
	zipBlock  = 512 << 10
	zipBlocks = 4
)

func compressor(w io.Writer) (io.WriteCloser, error) {
	z := pgzip.NewWriter(w)
	return z, z.SetConcurrency(zipBlock, min(zipBlocks, runtime.GOMAXPROCS(0)))
}

type nopCloser struct{ io.Writer }

// Close implements io.Closer.
func (nopCloser) Close() error { return nil }

type exporter struct {
	tar   *tar.Writer
	store *objects.Store
	time  time.Time
}

func (e *exporter) all(ctx context.Context, st *state.State) error {
	doc, err := st.Document()
	if err != nil {
		return err
	}
	if err := e.member("json", 0o600, int64(len(doc)), bytes.NewReader(doc)); err != nil {
		return err
	}
	for _, sum := range st.Sums() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := e.object(sum); err != nil {
			return err
		}
	}
	return nil
}

func (e *exporter) object(sum string) error {
	info, err := e.store.Open(sum)
	if err != nil {
		return err
	}
	size, err := info.Seek(0, io.SeekEnd)
	if err = errors.Join(err, info.Close()); err != nil {
		return err
	}
	r, err := e.store.OpenVerified(sum)
	if err != nil {
		return err
	}
	defer r.Close()
	return e.member("objects/"+sum, 0o644, size, r)
}

func (e *exporter) member(name string, mode, size int64, r io.Reader) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: size, ModTime: e.time}
	if err := e.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	if _, err := io.Copy(e.tar, r); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}

// ImportOptions select what an import takes. The zero value takes everything.
type ImportOptions struct {
	// Want reports whether the objects of a key are taken; nil takes those of all keys.
	// It has no effect on objects that come before the state in the archive.
	Want func(key string) bool
	// Foreign bounds the bytes of all members that the state does not name; default
	// 8 GiB. Objects that it names may be as large as the file system allows.
	Foreign int64
}

// Bounds of what an archive may hold beside the state and its objects.
const (
	maxForeign  = 8 << 30 // bytes
	maxMembers  = 1 << 18
	maxTrailing = 1 << 20 // bytes behind the end of the tar stream: its padding
)

// Import stores the objects of an archive and returns its state. Compression is
// recognised by content, see [decompress.Reader]. Objects enter the store together at the end and only if
// the whole archive is valid; otherwise nothing is stored and the error names the
// member. Members other than the state and objects are ignored. The caller checks
// for objects that the state names and the archive lacks, see
// [objects.Store.Missing].
//
// An object may occur once for each path that the state has for it, because older
// tools write it so; a second state is refused.
func Import(ctx context.Context, r io.Reader, store *objects.Store, opt ImportOptions) (*state.State, error) {
	batch := store.Batch()
	defer batch.Abort()
	im := newImporter(opt, func(r io.Reader, sum string) error {
		_, err := batch.Put(ctx, r, sum)
		return err
	})
	if err := im.read(ctx, r); err != nil {
		return nil, err
	}
	if err := batch.Commit(); err != nil {
		return nil, fmt.Errorf("storing the archive's objects: %w", err)
	}
	return im.state, nil
}

// ReadState returns the state of an archive without storing anything. It reads the
// whole archive but does not verify its objects.
func ReadState(ctx context.Context, r io.Reader) (*state.State, error) {
	im := newImporter(ImportOptions{}, func(r io.Reader, _ string) error {
		_, err := io.Copy(io.Discard, r)
		return err
	})
	if err := im.read(ctx, r); err != nil {
		return nil, err
	}
	return im.state, nil
}

func newImporter(opt ImportOptions, put func(io.Reader, string) error) *importer {
	if opt.Foreign == 0 {
		opt.Foreign = maxForeign
	}
	return &importer{opt: opt, put: put}
}

type importer struct {
	opt     ImportOptions
	put     func(r io.Reader, sum string) error
	state   *state.State
	named   map[string]*named // by SHA-256; nil before the state
	foreign int64             // bytes of members that the state does not name
	count   int               // of these members
}

// named is an object that the state names.
type named struct {
	left int  // members that may hold it: one for each path
	want bool // a path of it is wanted
}

func (im *importer) read(ctx context.Context, r io.Reader) error {
	stream, err := open(r)
	if err != nil {
		return err
	}
	defer stream.Close()
	tr := tar.NewReader(stream)
	last, end := "its beginning", ""
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			if end == "" && notTar(stream, err) {
				return fmt.Errorf("%w: not an archive, neither a tar file nor a compressed one", ErrArchive)
			}
			return fmt.Errorf("%w: reading on behind %s: %w", ErrArchive, last, err)
		}
		last, end = fmt.Sprintf("%.200q", h.Name), "the last member "
		err = im.member(h, tr)
		var own *storeError
		if errors.As(err, &own) {
			return fmt.Errorf("storing the archive's member %s: %w", last, own.error)
		}
		if err != nil {
			return fmt.Errorf("%w: member %s: %w", ErrArchive, last, err)
		}
	}
	if err := drain(stream); err != nil {
		return fmt.Errorf("%w: behind %s%s: %w", ErrArchive, end, last, err)
	}
	if im.state == nil {
		return fmt.Errorf("%w: it has no member \"json\"", ErrArchive)
	}
	return nil
}

// open returns the tar stream of an archive, whatever form of compression it has.
// notTar reports whether err, of the first header, says that a file which is not compressed
// is not a tar file either.
func notTar(stream io.ReadCloser, err error) bool {
	return !decompress.Compressed(stream) && (errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF))
}

func open(r io.Reader) (io.ReadCloser, error) {
	if f, ok := r.(*os.File); ok {
		r = direct.NewReader(f)
	}
	buffered := bufio.NewReaderSize(r, direct.Block)
	if _, err := buffered.Peek(1); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("it is empty")
		}
		return nil, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	stream, err := decompress.Reader(buffered)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	return stream, nil
}

// drain reads the padding up to the end, where gzip's checksum is.
func drain(r io.Reader) error {
	n, err := io.Copy(io.Discard, io.LimitReader(r, maxTrailing+1))
	if err == nil && n > maxTrailing {
		err = fmt.Errorf("more than %d bytes", maxTrailing)
	}
	return err
}

// member reads one member of the archive.
func (im *importer) member(h *tar.Header, r io.Reader) error {
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return im.admit(0)
	case tar.TypeReg:
	default:
		return fmt.Errorf("type %q: only files and directories are allowed", h.Typeflag)
	}
	switch dir, base := path.Split(name); {
	case name == "json":
		return im.document(h.Size, r)
	case dir == "objects/":
		return im.object(base, h.Size, r)
	}
	return im.admit(h.Size)
}

// admit counts a member that the state does not name.
func (im *importer) admit(size int64) error {
	if im.count++; im.count > maxMembers {
		return fmt.Errorf("more than %d members that the state does not name", maxMembers)
	}
	if size > im.opt.Foreign-im.foreign {
		return fmt.Errorf("the archive holds more than %d bytes that the state does not name", im.opt.Foreign)
	}
	im.foreign += size
	return nil
}

// cleanName refuses names that lead anywhere but into the archive's own tree.
func cleanName(name string) (string, error) {
	trimmed := strings.TrimSuffix(strings.TrimPrefix(name, "./"), "/")
	if trimmed == "" || trimmed == "." {
		return ".", nil
	}
	if path.IsAbs(name) || strings.ContainsRune(name, 0) || path.Clean(trimmed) != trimmed || trimmed == ".." || strings.HasPrefix(trimmed, "../") {
		return "", errors.New("a clean relative name is expected")
	}
	return trimmed, nil
}

func (im *importer) document(size int64, r io.Reader) error {
	if im.state != nil {
		return errors.New("a second state")
	}
	if size > canon.MaxSize {
		return fmt.Errorf("%d bytes; a state has at most %d", size, canon.MaxSize)
	}
	doc, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if im.state, err = state.Parse(doc); err != nil {
		return err
	}
	im.named = map[string]*named{}
	for _, o := range im.state.Objects() {
		n := im.named[o.Sum]
		if n == nil {
			n = &named{}
			im.named[o.Sum] = n
		}
		n.left++
		n.want = n.want || im.opt.Want == nil || im.opt.Want(o.Path)
	}
	return nil
}

func (im *importer) object(sum string, size int64, r io.Reader) error {
	if !state.IsSum(sum) {
		return objects.ErrName
	}
	switch n := im.named[sum]; {
	case n == nil || n.left == 0:
		if err := im.admit(size); err != nil {
			return err
		}
	case !n.want:
		return nil
	default:
		n.left--
	}
	from := &source{r: r}
	err := im.put(from, sum)
	if err != nil && from.err == nil && !errors.Is(err, objects.ErrMismatch) {
		return &storeError{err}
	}
	return err
}

// storeError is a local error that the archive did not cause.
type storeError struct{ error }

// Unwrap returns the error itself.
func (e *storeError) Unwrap() error { return e.error }

// source records the error that ended reading early.
type source struct {
	r   io.Reader
	err error
}

// Read implements io.Reader.
func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

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
	"runtime"
	"time"

	"github.com/klauspost/pgzip"

	"github.com/pantavisor/pantavisor/internal/atomicfile/direct"
	"github.com/pantavisor/pantavisor/internal/decompress"
	"github.com/pantavisor/pantavisor/revision/archive/unpack"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
)

// ErrArchive is wrapped by the errors for archives that are damaged or hostile.
var ErrArchive = unpack.ErrArchive

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
	st, err := read(ctx, r, unpack.Options{Want: opt.Want, Foreign: opt.Foreign, Put: func(r io.Reader, sum string, _ int64) error {
		_, err := batch.Put(ctx, r, sum)
		return err
	}})
	if err != nil {
		return nil, err
	}
	if err := batch.Commit(); err != nil {
		return nil, fmt.Errorf("storing the archive's objects: %w", err)
	}
	return st, nil
}

// ReadState returns the state of an archive without storing anything. It reads the
// whole archive but does not verify its objects.
func ReadState(ctx context.Context, r io.Reader) (*state.State, error) {
	return read(ctx, r, unpack.Options{Put: func(r io.Reader, _ string, _ int64) error {
		_, err := io.Copy(io.Discard, r)
		return err
	}})
}

func read(ctx context.Context, r io.Reader, opt unpack.Options) (*state.State, error) {
	stream, err := open(r)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	st, err := unpack.Tar(ctx, stream, opt)
	if errors.Is(err, unpack.ErrNotTar) && !decompress.Compressed(stream) {
		return nil, fmt.Errorf("%w: not an archive, neither a tar file nor a compressed one", ErrArchive)
	}
	return st, err
}

// open returns the tar stream of an archive, whatever form of compression it has.
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

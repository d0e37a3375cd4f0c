// Package objects is the object store: a directory of files, each named by the
// lower-case hexadecimal SHA-256 of its content. Stores are shared between
// revisions, between checkouts and with other tools in use, so the layout is
// fixed: no directories inside, no suffixes.
//
// Content is hashed while it is written; a file gets its name when the content is
// complete and durable. Temporary files start with a dot and are not objects.
package objects

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/atomicfile/direct"
	"github.com/pantavisor/pantavisor/internal/ctxio"
	"github.com/pantavisor/pantavisor/internal/filecopy"
	"github.com/pantavisor/pantavisor/internal/filelock"
	"github.com/pantavisor/pantavisor/internal/filestat"
	"github.com/pantavisor/pantavisor/revision/state"
)

// ErrMismatch is wrapped by the errors for content that differs from its name.
var ErrMismatch = errors.New("content differs from its SHA-256")

// ErrName is wrapped by the errors for names that are not a SHA-256.
var ErrName = errors.New("no object name (64 lower-case hexadecimal digits)")

// Perm is the mode of new objects.
const Perm = 0o644

// Store is a directory of objects. It is safe for concurrent use, also by several
// processes.
type Store struct {
	dir     string
	direct  bool
	noClone atomic.Bool // the destination of copies cannot share blocks with objects
}

// Open returns the store in a directory that exists.
func Open(dir string) (*Store, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the object store: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("opening the object store %s: %w", dir, syscall.ENOTDIR)
	}
	return &Store{dir: dir}, nil
}

// Create returns the store in a directory, which it creates if it is missing.
func Create(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("creating the object store: %w", err)
	}
	return Open(dir)
}

// Direct returns a store that bypasses the page cache for large objects, see package
// direct. It is meant for hosts, because each object being read or written takes
// 512 KiB of memory.
func (s *Store) Direct() *Store { return &Store{dir: s.dir, direct: true} }

// Dir returns the store's directory.
func (s *Store) Dir() string { return s.dir }

// Path returns where an object is or would be.
func (s *Store) Path(sum string) (string, error) {
	if !state.IsSum(sum) {
		return "", fmt.Errorf("%w: %.80q", ErrName, sum)
	}
	return filepath.Join(s.dir, sum), nil
}

// Has reports whether the store holds an object; it does not look at its content.
func (s *Store) Has(sum string) bool {
	_, ok := s.Size(sum)
	return ok
}

// Size returns how many bytes an object has; ok is false when the store does not
// hold it.
func (s *Store) Size(sum string) (size int64, ok bool) {
	path, err := s.Path(sum)
	if err != nil {
		return 0, false
	}
	st, err := filestat.OfLink(path)
	return st.Size, err == nil && st.IsRegular()
}

// Missing returns the objects of a state that the store lacks, sorted.
func (s *Store) Missing(st *state.State) []string {
	var out []string
	for _, sum := range st.Sums() {
		if !s.Has(sum) {
			out = append(out, sum)
		}
	}
	return out
}

// Open opens an object for reading. The error for a missing object wraps
// fs.ErrNotExist.
func (s *Store) Open(sum string) (*os.File, error) {
	path, err := s.Path(sum)
	if err != nil {
		return nil, err
	}
	f, err := filestat.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening object: %w", err)
	}
	return f, nil
}

// OpenVerified opens an object for reading once from start to end. The last read
// returns ErrMismatch instead of io.EOF when the content does not match the name.
func (s *Store) OpenVerified(sum string) (io.ReadCloser, error) {
	f, err := s.Open(sum)
	if err != nil {
		return nil, err
	}
	return &verified{f, s.reader(f), sha256.New(), sum, s.direct}, nil
}

// reader returns a reader of f, which must have no other reader.
func (s *Store) reader(f *os.File) io.Reader {
	if s.direct {
		return direct.NewReader(f)
	}
	return struct{ io.Reader }{f}
}

type verified struct {
	*os.File
	r      io.Reader
	hash   hash.Hash
	sum    string
	direct bool
}

// Read implements io.Reader.
func (v *verified) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.hash.Write(p[:n])
	if err == io.EOF {
		if got := hexSum(v.hash); got != v.sum {
			return n, fmt.Errorf("reading object %s: %w: got %s", v.sum, ErrMismatch, got)
		}
	}
	return n, err
}

// WriteTo implements io.WriterTo; the embedded method would bypass Read.
func (v *verified) WriteTo(w io.Writer) (int64, error) {
	buf, release := buffer(v.direct)
	defer release()
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{v}, buf)
}

func hexSum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// Verify hashes an object. The error wraps ErrMismatch when the object is damaged
// and fs.ErrNotExist when it is missing.
func (s *Store) Verify(ctx context.Context, sum string) error {
	r, err := s.OpenVerified(sum)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, ctxio.Reader(ctx, r))
	return err
}

// List returns the names of all objects, sorted.
func (s *Store) List() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("listing the object store: %w", err)
	}
	var out []string
	for _, e := range entries {
		if state.IsSum(e.Name()) && e.Type().IsRegular() {
			out = append(out, e.Name())
		}
	}
	sort.Strings(out)
	return out, nil
}

// Remove deletes an object; a missing one is not an error.
func (s *Store) Remove(sum string) error {
	path, err := s.Path(sum)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing object: %w", err)
	}
	return nil
}

// Put stores the content of r and returns its SHA-256. When want is not empty and
// differs, nothing is stored and the error wraps ErrMismatch.
func (s *Store) Put(ctx context.Context, r io.Reader, want string) (string, error) {
	b := s.Batch()
	defer b.Abort()
	sum, err := b.Put(ctx, r, want)
	if err != nil {
		return "", err
	}
	return sum, b.Commit()
}

// Batch starts a batch of objects that enter the store all or none, at the cost of
// two syncs. When no other process writes to the store, files that killed writers
// left behind are removed first.
func (s *Store) Batch() *Batch {
	return &Batch{store: s, writing: s.enter(), files: atomicfile.NewBatch(s.dir), have: map[string]bool{}}
}

// Batch is a set of new objects. Call Commit to keep them, and Abort in any case.
// Several goroutines may add objects.
type Batch struct {
	noClone atomic.Bool // the file system shares no blocks
	mu      sync.Mutex  // guards files' list and have
	store   *Store
	writing *filelock.Lock // of the store's directory; nil where it cannot be
	files   *atomicfile.Batch
	have    map[string]bool
}

// enter marks the store as being written to, by a shared lock on its directory that
// the kernel releases when the process ends. Without other writers it sweeps first.
func (s *Store) enter() *filelock.Lock {
	_ = s.Sweep()
	l, _ := filelock.Acquire(context.Background(), s.dir, filelock.Options{Shared: true})
	return l // nil without a lock; writing then reports the cause
}

// Put reads one object; see [Store.Put]. It is in the store after Commit.
func (b *Batch) Put(ctx context.Context, r io.Reader, want string) (string, error) {
	return b.put(ctx, r, want, false)
}

// put is Put; with absent the store is known not to have the object.
func (b *Batch) put(ctx context.Context, r io.Reader, want string, absent bool) (string, error) {
	if want != "" && !state.IsSum(want) {
		return "", fmt.Errorf("%w: %.80q", ErrName, want)
	}
	f, err := b.files.Create(Perm)
	if err != nil {
		return "", err
	}
	sum, size, err := b.store.copyHash(ctx, f, r)
	if err != nil {
		b.files.Discard(f)
		return "", fmt.Errorf("writing object %s: %w", want, err)
	}
	return b.stage(f, sum, size, want, absent)
}

// PutFile stores a file from its current offset, see Put. Where the file system can
// share blocks nothing is copied: the clone is hashed, so that a concurrent writer
// cannot change the content after it was hashed.
func (b *Batch) PutFile(ctx context.Context, src *os.File, want string) (string, error) {
	if want != "" && b.known(want, src) {
		return want, nil
	}
	absent := want != ""
	if b.noClone.Load() {
		return b.put(ctx, b.store.reader(src), want, absent)
	}
	f, err := b.files.Create(Perm)
	if err != nil {
		return "", err
	}
	if filecopy.Share(f, src) != nil {
		b.noClone.Store(true)
		b.files.Discard(f)
		return b.put(ctx, b.store.reader(src), want, absent)
	}
	sum, size, err := b.store.hash(ctx, f)
	if err != nil {
		b.files.Discard(f)
		return "", fmt.Errorf("hashing object %s: %w", want, err)
	}
	return b.stage(f, sum, size, want, absent)
}

// known reports whether an object with the size of a file is in the store.
func (b *Batch) known(sum string, f *os.File) bool {
	info, err := f.Stat()
	return err == nil && state.IsSum(sum) && b.store.hasSize(sum, info.Size())
}

// stage adds a complete file to the batch; with absent it does not check whether the
// store has the object.
func (b *Batch) stage(f *os.File, sum string, size int64, want string, absent bool) (string, error) {
	if want != "" && sum != want {
		b.files.Discard(f)
		return "", fmt.Errorf("storing object %s: %w: got %s", want, ErrMismatch, sum)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.have[sum] || !absent && b.store.hasSize(sum, size) {
		b.files.Discard(f)
		return sum, nil
	}
	b.have[sum] = true
	return sum, b.files.Stage(f, sum)
}

// buffers are for copying without [Store.Direct].
var buffers = sync.Pool{New: func() any { b := make([]byte, 128<<10); return &b }}

// buffer returns a buffer and the function that releases it.
func buffer(large bool) (buf []byte, release func()) {
	if large {
		b := direct.Buffer()
		return *b, func() { direct.Release(b) }
	}
	b := buffers.Get().(*[]byte)
	return *b, func() { buffers.Put(b) }
}

// copyHash copies r to a new file and hashes it.
func (s *Store) copyHash(ctx context.Context, f *os.File, r io.Reader) (sum string, size int64, err error) {
	if !s.direct {
		return hashTo(ctx, f, r, false)
	}
	w := direct.NewWriter(f)
	sum, size, err = hashTo(ctx, w, r, true)
	return sum, size, errors.Join(err, w.Flush())
}

// hash hashes a file.
func (s *Store) hash(ctx context.Context, f *os.File) (sum string, size int64, err error) {
	return hashTo(ctx, io.Discard, s.reader(f), s.direct)
}

// hashTo copies r to w and hashes it, a whole buffer at a time.
func hashTo(ctx context.Context, w io.Writer, r io.Reader, large bool) (sum string, size int64, err error) {
	buf, release := buffer(large)
	defer release()
	h := sha256.New()
	for err == nil {
		var n int
		n, err = fill(ctx, r, buf)
		h.Write(buf[:n])
		if _, werr := w.Write(buf[:n]); werr != nil {
			return "", size, werr
		}
		size += int64(n)
	}
	if !errors.Is(err, io.EOF) {
		return "", size, err
	}
	return hexSum(h), size, nil
}

// fill reads until the buffer is full or an error occurs, io.EOF at the end.
func fill(ctx context.Context, r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		if err = ctx.Err(); err == nil {
			m, err = r.Read(buf[n:])
		}
		n += m
	}
	return n, err
}

// hasSize reports whether the store has an object with the right size; one that an
// older tool truncated is replaced.
func (s *Store) hasSize(sum string, size int64) bool {
	got, ok := s.Size(sum)
	return ok && got == size
}

// Commit makes the objects durable and visible.
func (b *Batch) Commit() error { return b.files.Commit() }

// Abort discards everything that was not committed.
func (b *Batch) Abort() {
	b.files.Abort()
	if b.writing != nil {
		b.writing.Unlock()
		b.writing = nil
	}
}

// tempFile is the prefix of the names of a batch's files.
const tempFile = ".batch.tmp-"

// Sweep removes temporary files that killed writers left behind, unless a process is
// writing to the store.
func (s *Store) Sweep() error {
	l, err := filelock.Try(s.dir, filelock.Options{})
	if _, unopened := errors.AsType[*fs.PathError](err); unopened {
		return fmt.Errorf("opening the object store: %w", err)
	}
	if err != nil {
		return nil // it is in use, or on a file system without locks
	}
	defer l.Unlock()
	return s.sweep()
}

// sweep is Sweep with the lock held. It reads only names, because a store has
// thousands of files.
func (s *Store) sweep() error {
	d, err := os.Open(s.dir)
	if err != nil {
		return fmt.Errorf("opening the object store: %w", err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("listing the object store: %w", err)
	}
	var errs []error
	for _, name := range names {
		if strings.HasPrefix(name, tempFile) {
			errs = append(errs, os.Remove(filepath.Join(s.dir, name)))
		}
	}
	return errors.Join(errs...)
}

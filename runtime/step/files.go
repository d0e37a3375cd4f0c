package step

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/ctxio"
	"github.com/pantavisor/pantavisor/internal/filecopy"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/verified"
)

// Files are the files of a state in its revision's directory.
type Files struct {
	Dir   string
	State *state.State
	Store *objects.Store
	Hash  bool // check the content of objects as well (PV_SECUREBOOT_CHECKSUM)
	// Verified are the files whose content is known; it must be set with Hash.
	Verified *verified.Marks
	// Progress, unless nil, is told every few seconds how far the reading of a large object
	// is: it logs a line.
	Progress func(format string, args ...any)

	steps *Store // nil for a directory that is not in a store
}

// Files returns the files of a revision, with its state and the object store at the
// directory objectsDir. Hash is not set.
func (s *Store) Files(rev, objectsDir string) (*Files, error) {
	doc, err := s.State(rev)
	if err != nil {
		return nil, err
	}
	st, err := state.Parse(doc)
	if err != nil {
		return nil, fmt.Errorf("reading the state of revision %s: %w", rev, err)
	}
	store, err := objects.Create(objectsDir)
	return &Files{Dir: s.Dir(rev), State: st, Store: store, steps: s}, err
}

// Damage is an error that another attempt cannot mend: an object that is missing, or
// whose content does not match its name.
type Damage struct{ err error }

// Error implements error.
func (d *Damage) Error() string { return d.err.Error() }

// Unwrap returns the cause.
func (d *Damage) Unwrap() error { return d.err }

// Check checks the files whose keys mine accepts. Files that the directory lost are
// restored. An object that is missing in the store, or whose content does not match its
// name, is a [Damage] that names it.
func (f *Files) Check(ctx context.Context, mine func(key string) bool) error {
	for _, key := range f.State.Keys() {
		if !mine(key) {
			continue
		}
		if err := f.file(ctx, key); err != nil {
			return fmt.Errorf("checking %s: %w", key, err)
		}
	}
	return nil
}

// Restore makes the files that the directory lacks and whose keys mine accepts, all of them
// for a revision that is only its state. It makes what it can: a missing object is left to
// [Files.Check], other errors are returned together.
func (f *Files) Restore(mine func(key string) bool) error {
	var errs []error
	for _, key := range f.State.Keys() {
		path := filepath.Join(f.Dir, key)
		if _, err := os.Lstat(path); err == nil || !mine(key) {
			continue
		}
		var err error
		if sum, ok := f.State.Object(key); !ok {
			err = f.inline(key, path)
		} else if f.Store.Has(sum) {
			err = f.relink(context.Background(), key, sum, path)
		}
		if err != nil && len(errs) < maxErrors {
			errs = append(errs, fmt.Errorf("making %s: %w", key, err))
		}
	}
	return errors.Join(errs...)
}

// maxErrors bounds how many errors one Restore reports.
const maxErrors = 10

// checkObject checks the object of a key, without the file in the directory.
func (f *Files) checkObject(ctx context.Context, key string) error {
	sum, isObject := f.State.Object(key)
	if !isObject {
		return nil
	}
	object, err := f.Store.Path(sum)
	switch {
	case err != nil:
		return &Damage{err}
	case !f.Store.Has(sum):
		return &Damage{fmt.Errorf("checking %s: object %s is missing", key, sum)}
	case !f.Hash:
		return nil
	}
	if err := f.once(object, sum, func() error { return f.object(ctx, key, sum) }); err != nil {
		return fmt.Errorf("checking %s: %w", key, err)
	}
	return nil
}

func (f *Files) file(ctx context.Context, key string) error {
	path := filepath.Join(f.Dir, key)
	sum, isObject := f.State.Object(key)
	if !isObject {
		return f.inline(key, path)
	}
	if !f.Store.Has(sum) {
		return &Damage{fmt.Errorf("object %s is missing", sum)}
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := f.relink(ctx, key, sum, path); err != nil {
			return err
		}
	}
	if !f.Hash {
		return nil
	}
	return f.content(ctx, key, sum, path)
}

// relink restores a lost link to an object.
func (f *Files) relink(ctx context.Context, key, sum, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o775); err != nil {
		return err
	}
	if filepath.Ext(key) != ".bind" {
		if err := f.Store.Link(sum, path); !filecopy.CannotLink(err) {
			return err
		}
	}
	return f.copyObject(ctx, sum, path)
}

// copyObject writes a copy of an object, of which a power cut leaves no part: a file that
// is there is not made again.
func (f *Files) copyObject(ctx context.Context, sum, path string) error {
	src, err := f.Store.Open(sum)
	if err != nil {
		return err
	}
	defer src.Close()
	atomicfile.SweepOf(path)
	dst, err := atomicfile.Create(path, fileMode)
	if err != nil {
		return err
	}
	defer dst.Abort()
	if err := filecopy.Content(ctx, dst.File, src); err != nil {
		return fmt.Errorf("copying object %s: %w", sum, err)
	}
	return dst.Commit()
}

// inline restores a lost JSON file of the state.
func (f *Files) inline(key, path string) error {
	text, ok := f.State.Get(key)
	if !ok || !state.IsInline(key) {
		return nil
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o775); err != nil {
		return err
	}
	atomicfile.SweepOf(path)
	return atomicfile.Write(path, text, fileMode)
}

// content checks an object's content against its name, and the file at path, which is
// what the device mounts. That is a link to the object; if it is not, as on a file system
// without links or when somebody has replaced it, its own content is checked. Files of
// bind mounts belong to their container.
func (f *Files) content(ctx context.Context, key, sum, path string) error {
	object, err := f.Store.Path(sum)
	if err != nil {
		return &Damage{err}
	}
	if err := f.once(object, sum, func() error { return f.object(ctx, key, sum) }); err != nil {
		return err
	}
	if filepath.Ext(path) == ".bind" || sameFile(object, path) {
		return nil
	}
	return f.once(path, sum, func() error { return f.copied(ctx, key, sum, path) })
}

// object checks the content of an object in the store.
func (f *Files) object(ctx context.Context, key, sum string) error {
	file, err := f.Store.OpenVerified(sum)
	if err != nil {
		return err
	}
	defer file.Close()
	size, _ := f.Store.Size(sum)
	return hashAll(io.Discard, f.reader(ctx, key, size, file), size)
}

func sameFile(a, b string) bool {
	one, err1 := os.Stat(a)
	two, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(one, two)
}

// once checks the content of a file unless that has been done. What check reports is a
// [Damage].
func (f *Files) once(path, sum string, check func() error) error {
	return f.Verified.Check(path, sum, func() error {
		if err := check(); err != nil {
			return &Damage{err}
		}
		return nil
	})
}

// copied checks that a file in a revision's directory has the content of its object.
func (f *Files) copied(ctx context.Context, key, sum, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	h := sha256.New()
	if err := hashAll(h, f.reader(ctx, key, info.Size(), file), info.Size()); err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != sum {
		return fmt.Errorf("%s has the content of %s, not of object %s", path, got, sum)
	}
	return nil
}

// hashAll copies r, which has size bytes, to w in pieces that fit into a processor's cache.
func hashAll(w io.Writer, r io.Reader, size int64) error {
	const piece = 128 << 10
	_, err := io.CopyBuffer(struct{ io.Writer }{w}, r, make([]byte, max(1, min(size, piece))))
	return err
}

// progressPeriod is the time between two calls of Progress.
const progressPeriod = 5 * time.Second

// reader returns a reader that ends with ctx and reports progress.
func (f *Files) reader(ctx context.Context, key string, size int64, r io.Reader) io.Reader {
	return &progress{r: ctxio.Reader(ctx, r), files: f, key: key, size: size, next: time.Now().Add(progressPeriod)}
}

type progress struct {
	r          io.Reader
	files      *Files
	key        string
	done, size int64
	next       time.Time
}

// Read implements io.Reader.
func (p *progress) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.done += int64(n)
	if now := time.Now(); p.files.Progress != nil && now.After(p.next) {
		p.next = now.Add(progressPeriod)
		p.files.Progress("checking %s: %d of %d MiB", p.key, p.done>>20, p.size>>20)
	}
	return n, err
}

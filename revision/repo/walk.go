package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"syscall"

	"github.com/pantavisor/pantavisor/internal/filestat"
	"github.com/pantavisor/pantavisor/revision/state"
)

// file is a regular file of the working tree, or a symbolic link to one.
type file struct {
	key   string
	stamp stamp
	mode  uint32 // permission bits
	links uint64
}

// walk returns the files of the checkout in the order of their names, directory by
// directory. It leaves out the bookkeeping directories, the object store and everything
// that is not a file, which it returns as skipped.
func (r *Repo) walk(ctx context.Context) (files []file, skipped []Skipped, err error) {
	w := walker{ctx: ctx, store: r.storeKey()}
	if err := w.directory(r.dir, ""); err != nil {
		return nil, nil, fmt.Errorf("reading the working tree: %w", err)
	}
	return w.files, w.skipped, nil
}

// Skipped is a name of the working tree that a state cannot have.
type Skipped struct {
	Key string
	Why string // what it is, as in "a FIFO"
}

// kindOf says what a name with this mode is, a file excepted.
func kindOf(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeNamedPipe != 0:
		return "a FIFO"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	case mode&fs.ModeDevice != 0:
		return "a device"
	case mode.IsDir():
		return "a symbolic link to a directory"
	}
	return "not a regular file"
}

type walker struct {
	ctx   context.Context //nolint:containedctx // lives as long as one walk
	store string          // key of the object store; empty when it is elsewhere
	files []file

	skipped []Skipped
}

func (w *walker) skip(key, why string) { w.skipped = append(w.skipped, Skipped{key, why}) }

func (w *walker) directory(path, key string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	entries, err := d.ReadDir(-1)
	if err != nil {
		return err
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name() < entries[j].Name() })
	for _, e := range entries {
		if err := w.entry(d, path, key, e); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) entry(d *os.File, path, key string, e fs.DirEntry) error {
	name := e.Name()
	if key == "" && (name == Dir || name == ".pv") {
		return nil
	}
	if e.IsDir() && key+name == w.store {
		return nil
	}
	if e.IsDir() {
		return w.directory(filepath.Join(path, name), key+name+"/")
	}
	if !e.Type().IsRegular() && e.Type()&fs.ModeSymlink == 0 {
		w.skip(key+name, kindOf(e.Type()))
		return nil
	}
	st, err := filestat.OfName(d, name) // follows links, as add does
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ELOOP):
		if e.Type()&fs.ModeSymlink != 0 { // else it was removed meanwhile
			w.skip(key+name, "a symbolic link that leads to nothing")
		}
	case err != nil:
		return err
	case st.IsRegular():
		w.files = append(w.files, fileOf(key+name, &st))
	case st.IsDir():
		w.skip(key+name, kindOf(fs.ModeDir))
	default:
		w.skip(key+name, "a symbolic link to what is not a file")
	}
	return nil
}

func fileOf(key string, st *filestat.Stat) file {
	return file{key, stampOf(st), st.Permissions(), st.Links}
}

// storeKey returns the path of the object store within the checkout. It is empty when
// the store is elsewhere, and when the state has files in its directory, because the
// walk must find them.
func (r *Repo) storeKey() string {
	key, err := filepath.Rel(r.dir, r.config.objectsIn(r.dir))
	key = filepath.ToSlash(key)
	if err != nil || key == "." || !filepath.IsLocal(key) || state.Within(Dir, key) {
		return ""
	}
	for _, tracked := range r.committed.Keys() {
		if state.Within(key, tracked) {
			return ""
		}
	}
	for tracked := range r.added {
		if state.Within(key, tracked) {
			return ""
		}
	}
	return key
}

// statFile returns one file of the checkout; ok is false when it is not a regular file.
func (r *Repo) statFile(key string) (f file, ok bool) {
	st, err := filestat.Of(filepath.Join(r.dir, key))
	return fileOf(key, &st), err == nil && st.IsRegular()
}

// Package atomicfile writes files that must survive a power cut or a kill: the bytes go
// to a temporary file in the same directory, are synced, and take the final name by
// rename; then the directory is synced. A reader sees either the old or the new content,
// never a part.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/internal/filelock"
)

// Write replaces the file at path by data with the permission bits perm (not
// masked by umask). On an error the old file is untouched.
func Write(path string, data []byte, perm os.FileMode) error {
	return write(path, data, perm, (*File).Commit)
}

// Replace is [Write] without the syncs, for what need not survive a power cut: a reader
// sees either the old or the new content.
func Replace(path string, data []byte, perm os.FileMode) error {
	return write(path, data, perm, (*File).name)
}

func write(path string, data []byte, perm os.FileMode, finish func(*File) error) error {
	f, err := Create(path, perm)
	if err != nil {
		return err
	}
	defer f.Abort()
	if _, err := f.Write(data); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return finish(f)
}

// File is a file that does not have its final name yet. Write to it, then Commit; a
// deferred Abort removes it when Commit was not reached.
type File struct {
	*os.File
	path string
	lock *filelock.Lock // keeps Sweep away; nil on file systems without locks
	done bool
}

// maxStem keeps the temporary name within 255 bytes even when the final name is that
// long.
const maxStem = 220

// Create opens a temporary file beside path, ".NAME.tmp-RANDOM", NAME cut to 220 bytes.
func Create(path string, perm os.FileMode) (*File, error) {
	f, err := create(path)
	if err != nil {
		return nil, fmt.Errorf("creating a temporary file for %s: %w", path, err)
	}
	if err := f.Chmod(perm); err != nil {
		f.Abort()
		return nil, fmt.Errorf("setting the mode of %s: %w", path, err)
	}
	return f, nil
}

// infix stands between the name of a file and the number of its temporary file.
const infix = ".tmp-"

func create(path string) (*File, error) {
	for {
		f, err := os.CreateTemp(filepath.Dir(path), prefix(path))
		if err != nil {
			return nil, err
		}
		lock, err := filelock.Try(f.Name(), filelock.Options{})
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, filelock.ErrHeld) {
			return &File{File: f, path: path, lock: lock}, nil
		}
		_ = f.Close() // a sweep came between
	}
}

// Sweep removes the temporary files of a directory whose writers were killed; those of
// running writers stay. It ignores errors: what needs the space or the name reports them.
func Sweep(dir string) { sweep(dir, "") }

// SweepOf is [Sweep] for the temporary files of one path, for a directory that others
// use, too.
func SweepOf(path string) { sweep(filepath.Dir(path), prefix(path)) }

func sweep(dir, prefix string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if e.Type().IsRegular() && strings.HasPrefix(e.Name(), prefix) && IsTemporary(e.Name()) {
			discard(filepath.Join(dir, e.Name()))
		}
	}
}

// prefix returns what the names of the temporary files for a path begin with.
func prefix(path string) string {
	stem := filepath.Base(path)
	return "." + stem[:min(len(stem), maxStem)] + infix
}

// IsTemporary reports whether a name is of the form ".NAME.tmp-NUMBER".
func IsTemporary(name string) bool {
	stem, number, ok := cutLast(name, infix)
	return ok && len(stem) > 1 && stem[0] == '.' && number != "" && strings.Trim(number, "0123456789") == ""
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// discard removes a temporary file unless its writer holds it.
func discard(path string) {
	lock, err := filelock.Try(path, filelock.Options{})
	if err != nil {
		return
	}
	defer lock.Unlock()
	_ = os.Remove(path)
}

// release lets the file's lock go.
func (f *File) release() {
	if f.lock != nil {
		f.lock.Unlock()
		f.lock = nil
	}
}

// Commit makes the content durable under the final name.
func (f *File) Commit() error {
	if inOrder(f.File) {
		return f.commitOnce()
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("syncing %s: %w", f.path, err)
	}
	if err := f.name(); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(f.path))
}

// commitOnce is Commit for a file system that keeps the order of what it is told: content and
// name become durable by one transaction in place of two.
func (f *File) commitOnce() error {
	if err := writeOut(f.File); err != nil {
		return fmt.Errorf("writing %s out: %w", f.path, err)
	}
	if err := f.rename(); err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("syncing %s: %w", f.path, err)
	}
	return SyncDir(filepath.Dir(f.path)) // has nothing to do but to say so
}

// name closes the file and gives it its final name.
func (f *File) name() error {
	if err := f.Close(); err != nil {
		return fmt.Errorf("closing %s: %w", f.path, err)
	}
	return f.rename()
}

// rename gives the file its final name.
func (f *File) rename() error {
	if err := Rename(f.Name(), f.path); err != nil {
		return fmt.Errorf("renaming to %s: %w", f.path, err)
	}
	f.done = true
	f.release()
	return nil
}

// Abort removes the temporary file; after Commit it does nothing.
func (f *File) Abort() {
	if f.done {
		return
	}
	_ = f.Close()
	_ = os.Remove(f.Name())
	f.release()
}

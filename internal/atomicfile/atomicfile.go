// Package atomicfile writes files that must survive a power cut or a kill: the bytes go
// to a temporary file in the same directory, are synced, and take the final name by
// rename; then the directory is synced. A reader sees either the old or the new content,
// never a part.
package atomicfile

import (
	"fmt"
	"os"
	"path/filepath"
)

// Write replaces the file at path by data with the permission bits perm (not
// masked by umask). On an error the old file is untouched.
func Write(path string, data []byte, perm os.FileMode) error {
	f, err := Create(path, perm)
	if err != nil {
		return err
	}
	defer f.Abort()
	if _, err := f.Write(data); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return f.Commit()
}

// Replace is [Write] without the syncs, for what need not survive a power cut: a reader
// sees either the old or the new content.
func Replace(path string, data []byte, perm os.FileMode) error {
	f, err := Create(path, perm)
	if err != nil {
		return err
	}
	defer f.Abort()
	if _, err := f.Write(data); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return f.name()
}

// File is a file that does not have its final name yet. Write to it, then Commit; a
// deferred Abort removes it when Commit was not reached.
type File struct {
	*os.File
	path string
	done bool
}

// maxStem keeps the temporary name within 255 bytes even when the final name is that
// long.
const maxStem = 220

// Create opens a temporary file beside path, ".NAME.tmp-RANDOM", NAME cut to 220 bytes.
func Create(path string, perm os.FileMode) (*File, error) {
	stem := filepath.Base(path)
	f, err := os.CreateTemp(filepath.Dir(path), "."+stem[:min(len(stem), maxStem)]+".tmp-")
	if err != nil {
		return nil, fmt.Errorf("creating a temporary file for %s: %w", path, err)
	}
	if err := f.Chmod(perm); err != nil {
		_ = f.Close()
		_ = os.Remove(f.Name())
		return nil, fmt.Errorf("setting the mode of %s: %w", path, err)
	}
	return &File{File: f, path: path}, nil
}

// Commit makes the content durable under the final name.
func (f *File) Commit() error {
	if err := f.Sync(); err != nil {
		return fmt.Errorf("syncing %s: %w", f.path, err)
	}
	if err := f.name(); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(f.path))
}

// name closes the file and gives it its final name.
func (f *File) name() error {
	if err := f.Close(); err != nil {
		return fmt.Errorf("closing %s: %w", f.path, err)
	}
	if err := os.Rename(f.Name(), f.path); err != nil {
		return fmt.Errorf("renaming to %s: %w", f.path, err)
	}
	f.done = true
	return nil
}

// Abort removes the temporary file; after Commit it does nothing.
func (f *File) Abort() {
	if f.done {
		return
	}
	_ = f.Close()
	_ = os.Remove(f.Name())
}

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("opening directory %s: %w", dir, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("syncing directory %s: %w", dir, err)
	}
	return nil
}

package atomicfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Batch is a set of files of one directory that get their names together: all contents
// are durable before the first name appears. Until Commit nothing is visible, and
// Abort leaves nothing behind. It is not safe for concurrent use.
type Batch struct {
	dir    string
	staged []staged
}

type staged struct{ temp, name string }

// NewBatch returns an empty batch for a directory.
func NewBatch(dir string) *Batch { return &Batch{dir: dir} }

// Len returns the number of files that wait for their names.
func (b *Batch) Len() int { return len(b.staged) }

// Create opens a temporary file; pass it to Stage or Discard.
func (b *Batch) Create(perm os.FileMode) (*os.File, error) {
	f, err := os.CreateTemp(b.dir, ".batch.tmp-")
	if err != nil {
		return nil, fmt.Errorf("creating a temporary file in %s: %w", b.dir, err)
	}
	if err := f.Chmod(perm); err != nil {
		b.Discard(f)
		return nil, fmt.Errorf("setting the mode of %s: %w", f.Name(), err)
	}
	return f, nil
}

// Stage closes a file made by Create; Commit gives it the name.
func (b *Batch) Stage(f *os.File, name string) error {
	if err := f.Close(); err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("closing %s: %w", f.Name(), err)
	}
	b.staged = append(b.staged, staged{f.Name(), name})
	return nil
}

// Discard removes a file made by Create.
func (b *Batch) Discard(f *os.File) {
	_ = f.Close()
	_ = os.Remove(f.Name())
}

// Commit makes all staged files durable and then names them. After an error some
// files may have their names; each of them is complete.
func (b *Batch) Commit() error {
	if len(b.staged) == 0 {
		return nil
	}
	if err := b.sync(); err != nil {
		return err
	}
	for len(b.staged) > 0 {
		s := b.staged[0]
		if err := Rename(s.temp, filepath.Join(b.dir, s.name)); err != nil {
			return fmt.Errorf("renaming to %s: %w", s.name, err)
		}
		b.staged = b.staged[1:]
	}
	return SyncDir(b.dir)
}

func (b *Batch) sync() error {
	files := make([]string, len(b.staged))
	for i, s := range b.staged {
		files[i] = s.temp
	}
	return syncFiles(b.dir, files)
}

// syncFile writes the content of a file to its disk, and with last what the disk has in
// its cache.
func syncFile(path string, last bool) error {
	f, err := openForSync(path)
	if err != nil {
		return fmt.Errorf("opening %s: %w", path, err)
	}
	if last {
		err = f.Sync()
	} else {
		err = flush(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("syncing %s: %w", path, err)
	}
	return nil
}

// Abort removes the files that do not have their names yet.
func (b *Batch) Abort() {
	for _, s := range b.staged {
		_ = os.Remove(s.temp)
	}
	b.staged = nil
}

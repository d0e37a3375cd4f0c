package app

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pantavisor/pantavisor/atomicfile"
)

// change collects the new files of one application and puts them in place
// together. A folder that is not there yet is made under another name first.
type change struct {
	final string // the application's folder
	dir   string // where files are made
	files []*atomicfile.File
	names []string // of files
	first []string // removed before anything else
	gone  []string // removed when all else is in place
}

func begin(final string) (*change, error) {
	c := &change{final: final, dir: final}
	if _, err := os.Stat(final); err == nil {
		return c, nil
	}
	parent, base := filepath.Split(final)
	dir, err := os.MkdirTemp(parent, "."+base+".tmp-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for %s: %w", base, err)
	}
	c.dir = dir
	return c, os.Chmod(dir, 0o755)
}

// create begins a file that the change will put in place.
func (c *change) create(name string) (*atomicfile.File, error) {
	path := filepath.Join(c.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("making the folder of %s: %w", name, err)
	}
	f, err := atomicfile.Create(path, 0o644)
	if err != nil {
		return nil, err
	}
	c.files, c.names = append(c.files, f), append(c.names, name)
	return f, nil
}

func (c *change) write(name string, data []byte) error {
	f, err := c.create(name)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}

// remove notes a file that shall be gone.
func (c *change) remove(name string) { c.gone = append(c.gone, name) }

// commit puts the files in place: the manifest first, which says what the others
// shall be, then the others in the order in which they were begun.
func (c *change) commit() error {
	if err := c.drop(c.first); err != nil {
		return err
	}
	for _, manifest := range []bool{true, false} {
		for i, f := range c.files {
			if (c.names[i] == SourceName) != manifest {
				continue
			}
			if err := f.Commit(); err != nil {
				return err
			}
		}
	}
	if err := c.drop(c.gone); err != nil {
		return err
	}
	if c.dir == c.final {
		return nil
	}
	if err := os.Rename(c.dir, c.final); err != nil {
		return fmt.Errorf("naming the new folder: %w", err)
	}
	c.dir = c.final
	return atomicfile.SyncDir(filepath.Dir(c.final))
}

func (c *change) drop(names []string) error {
	for _, name := range names {
		if err := os.Remove(filepath.Join(c.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("removing %s: %w", name, err)
		}
	}
	return nil
}

// abort undoes what was not committed.
func (c *change) abort() {
	for _, f := range c.files {
		f.Abort()
	}
	if c.dir != c.final {
		_ = os.RemoveAll(c.dir)
	}
}

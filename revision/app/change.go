package app

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/filestat"
)

// change collects the new files of one application and puts them in place together.
// They are made in a directory within .pvr, which the next command removes when this
// one is killed; if that is on another file system, beside the application.
type change struct {
	final string // the application's directory
	isNew bool   // final is not there yet
	dir   string // where files are made; final itself where nothing else can be
	files []*atomicfile.File
	names []string // of files
	first []string // removed before anything else
	gone  []string // removed when all else is in place
}

// change begins a change of a directory.
func (w *Workspace) change(final string) (*change, error) {
	c := &change{final: final, dir: final}
	parent, base := filepath.Split(final)
	near := final
	if _, err := os.Stat(final); err != nil {
		c.isNew, near = true, parent
	}
	if own := filepath.Join(w.Dir, repositoryDir); filestat.SameFileSystem(own, near) {
		parent = own
	} else if !c.isNew {
		return c, nil
	}
	dir, err := os.MkdirTemp(parent, "."+base[:min(len(base), 200)]+".tmp-")
	if err != nil {
		return nil, fmt.Errorf("making a directory for %s: %w", base, err)
	}
	c.dir = dir
	return c, os.Chmod(dir, 0o755)
}

// repositoryDir is the directory of the repository in a checkout.
const repositoryDir = ".pvr"

// create creates a file that the change will put in place.
func (c *change) create(name string) (*atomicfile.File, error) {
	path := filepath.Join(c.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("making the directory of %s: %w", name, err)
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

// remove records a file to be removed.
func (c *change) remove(name string) { c.gone = append(c.gone, name) }

// commit puts the files in place: the manifest first, because it describes the others,
// then the others in the order in which they were created.
func (c *change) commit() error {
	if err := c.drop(c.first); err != nil {
		return err
	}
	for _, manifest := range []bool{true, false} {
		for i := range c.files {
			if (c.names[i] == SourceName) != manifest {
				continue
			}
			if err := c.place(i); err != nil {
				return err
			}
		}
	}
	if err := c.drop(c.gone); err != nil {
		return err
	}
	if !c.isNew {
		return nil
	}
	if err := atomicfile.Rename(c.dir, c.final); err != nil {
		return fmt.Errorf("naming the new directory: %w", err)
	}
	c.dir, c.isNew = c.final, false
	return atomicfile.SyncDir(filepath.Dir(c.final))
}

// place completes a file and moves it to its destination, unless it was made
// there or the whole directory is moved.
func (c *change) place(i int) error {
	if err := c.files[i].Commit(); err != nil {
		return err
	}
	if c.isNew || c.dir == c.final {
		return nil
	}
	from, to := filepath.Join(c.dir, c.names[i]), filepath.Join(c.final, c.names[i])
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return fmt.Errorf("making the directory of %s: %w", c.names[i], err)
	}
	if err := atomicfile.Rename(from, to); err != nil {
		return fmt.Errorf("placing %s: %w", c.names[i], err)
	}
	return atomicfile.SyncDir(filepath.Dir(to))
}

func (c *change) drop(names []string) error {
	for _, name := range names {
		if err := os.Remove(filepath.Join(c.final, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("removing %s: %w", name, err)
		}
	}
	return nil
}

// abort undoes everything that was not committed.
func (c *change) abort() {
	for _, f := range c.files {
		f.Abort()
	}
	if c.dir != c.final {
		_ = os.RemoveAll(c.dir)
	}
}

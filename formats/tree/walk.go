package tree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/pantavisor/pantavisor/internal/filestat"
)

// Options control how a directory is collected.
type Options struct {
	// Normal is applied to every entry.
	Normal Normal
	// Xattrs reads extended attributes as well, which costs at least one system call per
	// name. Those in the kernel's name space system.* are left out: each file system
	// generates them.
	Xattrs bool
	// System, unless nil, is called for every attribute that is left out.
	System func(name, attribute string)
}

// Walk calls do for every entry below a directory of this machine, the root first and the
// names of each directory in byte order. It never follows a symbolic link below dir and
// never reads another file than that of the entry: if a file or directory is replaced in
// the meantime, opening it is an error. The first error ends the walk.
func Walk(ctx context.Context, dir string, o Options, do func(Entry) error) error {
	root, err := openTop(dir)
	if err != nil {
		return fmt.Errorf("collecting a directory: %w", err)
	}
	defer root.Close()
	w := &walker{ctx: ctx, root: dir, opts: o, do: do, seen: map[filestat.ID]string{}}
	if err := w.top(root); err != nil {
		return fmt.Errorf("collecting %s: %w", dir, err)
	}
	return nil
}

// Read returns all entries below a directory as Walk finds them, without the root.
func Read(ctx context.Context, dir string, o Options) ([]Entry, error) {
	var out []Entry
	err := Walk(ctx, dir, o, func(e Entry) error {
		if e.Name != "." {
			out = append(out, e)
		}
		return nil
	})
	return out, err
}

// File returns an entry of the given name for one file of this machine. A symbolic
// link is not followed.
func File(file, name string) (Entry, error) {
	st, err := filestat.OfLink(file)
	if err != nil {
		return Entry{}, err
	}
	e := fromStat(name, &st)
	switch {
	case e.Mode.IsRegular():
		from := &source{root: filepath.Dir(file), name: filepath.Base(file), id: st.ID}
		e.Open = from.open
	case e.Mode.Type() == fs.ModeSymlink:
		target, err := os.Readlink(file)
		if err != nil {
			return e, err
		}
		e.Link = target
	}
	return e, nil
}

type walker struct {
	ctx  context.Context
	root string
	opts Options
	do   func(Entry) error
	seen map[filestat.ID]string // first name of each file that has several
	buf  []byte                 // for extended attributes
}

func (w *walker) top(root openDir) error {
	st, err := root.stat()
	if err != nil {
		return err
	}
	e := fromStat(".", &st)
	if err := w.attributes(root, ".", &e); err != nil {
		return err
	}
	if err := w.do(w.opts.Normal.Apply(e)); err != nil {
		return err
	}
	return w.children(root, "")
}

// children walks a directory; prefix is its name with a slash behind it.
func (w *walker) children(dir openDir, prefix string) error {
	names, err := dir.names()
	if err != nil {
		return fmt.Errorf("reading directory %.200q: %w", path.Clean(prefix), err)
	}
	slices.Sort(names)
	for _, base := range names {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		name := prefix + base
		if err := w.one(dir, name[len(prefix):], name); err != nil { // one string for both
			return err
		}
	}
	return nil
}

// one visits a name and, for a directory, everything below it.
func (w *walker) one(dir openDir, base, name string) error {
	st, err := dir.lstat(base)
	if err != nil {
		return fmt.Errorf("looking at %.200q: %w", name, err)
	}
	e := fromStat(name, &st)
	switch e.Mode.Type() {
	case 0:
		from := &source{dir: dir, base: base, root: w.root, name: name, id: st.ID}
		e.Open = from.open
	case fs.ModeSymlink:
		if e.Link, err = dir.readlink(base, int(st.Size)); err != nil {
			return fmt.Errorf("reading link %.200q: %w", name, err)
		}
	}
	if st.Links > 1 && !e.Mode.IsDir() {
		e.HardLink = w.earlier(st.ID, name)
	}
	if err := w.attributes(dir, base, &e); err != nil {
		return err
	}
	if err := w.do(w.opts.Normal.Apply(e)); err != nil || !e.Mode.IsDir() {
		return err
	}
	return w.below(dir, base, name, st.ID)
}

// earlier returns the first name of a file, empty for that name itself.
func (w *walker) earlier(id filestat.ID, name string) string {
	first, again := w.seen[id]
	if !again {
		w.seen[id] = name
	}
	return first
}

func (w *walker) below(parent openDir, base, name string, id filestat.ID) error {
	dir, err := parent.enter(base, name)
	if err != nil {
		return fmt.Errorf("opening directory %.200q: %w", name, err)
	}
	defer dir.Close()
	if st, err := dir.stat(); err != nil || st.ID != id {
		return fmt.Errorf("opening directory %.200q: %w", name, cmp.Or(err, errExchanged))
	}
	return w.children(dir, name+"/")
}

// errExchanged reports that a name now refers to another file.
var errExchanged = errors.New("it was exchanged while the tree was read")

func fromStat(name string, st *filestat.Stat) Entry {
	e := Entry{Name: name, Mode: FileMode(st.Mode), UID: st.UID, GID: st.GID, ModTime: st.ModTime()}
	switch {
	case e.Mode.IsRegular():
		e.Size = st.Size
	case e.Mode&fs.ModeDevice != 0:
		e.Major, e.Minor = st.Major, st.Minor
	}
	return e
}

// source is where the content of an entry comes from.
type source struct {
	dir  openDir // while it is being walked
	base string
	root string
	name string
	id   filestat.ID
}

func (s *source) open() (io.ReadCloser, error) {
	f, err := s.near()
	if f == nil && err == nil {
		f, err = s.far()
	}
	if errors.Is(err, syscall.ELOOP) {
		err = errExchanged
	}
	if err != nil {
		return nil, fmt.Errorf("opening %.200q: %w", s.name, err)
	}
	return f, nil
}

// stepwise opens the file from the root of the tree and stays below it, with at least one
// system call for every directory on the path.
func (s *source) stepwise() (*os.File, error) {
	root, err := os.OpenRoot(s.root)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.OpenFile(filepath.FromSlash(s.name), os.O_RDONLY|noWait, 0)
	if err != nil {
		return nil, err
	}
	return s.same(f)
}

// same returns the open file if it is that of the entry, else it closes it.
func (s *source) same(f *os.File) (*os.File, error) {
	st, err := filestat.OfFile(f)
	if err == nil && st.ID != s.id {
		err = errExchanged
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

package deb

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"
)

// Extract writes files of a package below a directory.
type Extract struct {
	// Keep reports whether a file is wanted, by its path in the package; nil keeps all.
	// Directories are created as their files need them.
	Keep func(name string) bool
	// Place maps a path of the package to a path below the directory; nil keeps it.
	Place func(name string) string
	// Time is the modification time of every file.
	Time time.Time
}

// errKind is in the chain when a wanted file is neither a regular file, a directory
// nor a link.
var errKind = errors.New("not a regular file, directory or link")

// To unpacks the package in r into dir, which must exist. No file is written outside dir,
// whatever names and links the package has. Owners, set-user-id bits and extended
// attributes are dropped; absolute links become relative, so that they stay inside.
func (x Extract) To(dir string, r io.Reader) error {
	data, err := openData(r)
	if err != nil {
		return err
	}
	defer data.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("unpacking a package: %w", err)
	}
	defer root.Close()
	w := writer{Extract: x, root: root}
	if err := walk(data, w.entry); err != nil {
		return err
	}
	// The rest of the stream carries the checksums.
	if _, err := io.Copy(io.Discard, io.LimitReader(data, MaxData)); err != nil {
		return malformed("data archive: %v", err)
	}
	return nil
}

type writer struct {
	Extract
	root *os.Root
}

func (w writer) place(name string) string {
	if w.Place == nil {
		return name
	}
	return w.Place(name)
}

func (w writer) entry(name string, h *tar.Header, body io.Reader) error {
	if h.Typeflag == tar.TypeDir || w.Keep != nil && !w.Keep(name) {
		return nil
	}
	to := w.place(name)
	if err := w.root.MkdirAll(path.Dir(to), 0o755); err != nil {
		return fmt.Errorf("unpacking %s: %w", name, err)
	}
	var err error
	switch h.Typeflag {
	case tar.TypeReg:
		err = w.file(to, h, body)
	case tar.TypeSymlink:
		err = w.symlink(to, h.Linkname)
	case tar.TypeLink:
		err = w.link(to, h.Linkname)
	default:
		err = errKind
	}
	if err != nil {
		return fmt.Errorf("unpacking %s: %w", name, err)
	}
	return nil
}

func (w writer) file(to string, h *tar.Header, body io.Reader) error {
	if err := w.remove(to); err != nil {
		return err
	}
	f, err := w.root.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, body)
	err = errors.Join(err, f.Chmod(mode(h)), f.Close())
	if err != nil {
		return err
	}
	return w.root.Chtimes(to, w.Time, w.Time)
}

// mode keeps only whether a file is executable: owners mean nothing here.
func mode(h *tar.Header) fs.FileMode {
	if h.Mode&0o111 != 0 {
		return 0o755
	}
	return 0o644
}

func (w writer) symlink(to, target string) error {
	if target == "" || len(target) > 4096 {
		return malformed("bad link target %.40q", target)
	}
	if path.IsAbs(target) {
		inside := w.place(strings.TrimLeft(path.Clean(target), "/"))
		target = relative(path.Dir(to), inside)
	}
	if err := w.remove(to); err != nil {
		return err
	}
	return w.root.Symlink(target, to)
}

// relative returns the relative path from a directory to a path, both below the same root.
func relative(dir, to string) string {
	if dir == "." {
		return to
	}
	return strings.Repeat("../", strings.Count(dir, "/")+1) + to
}

func (w writer) link(to, target string) error {
	name, err := clean(target)
	if err != nil {
		return err
	}
	if err := w.remove(to); err != nil {
		return err
	}
	return w.root.Link(w.place(name), to)
}

// remove removes what another package or an earlier entry wrote at the path.
func (w writer) remove(to string) error {
	err := w.root.Remove(to)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

package tree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
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
	root, err := os.OpenFile(dir, unix.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("collecting a directory: %w", err)
	}
	defer root.Close()
	w := &walker{ctx: ctx, root: dir, opts: o, do: do, seen: map[fileID]string{}}
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
	var st unix.Stat_t
	if err := unix.Lstat(file, &st); err != nil {
		return Entry{}, &fs.PathError{Op: "lstat", Path: file, Err: err}
	}
	e := fromStat(name, &st)
	switch {
	case e.Mode.IsRegular():
		from := &source{root: filepath.Dir(file), name: filepath.Base(file), id: idOf(&st)}
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

// fileID identifies a file of this machine, whatever its names.
type fileID struct{ dev, ino uint64 }

func idOf(st *unix.Stat_t) fileID {
	return fileID{uint64(st.Dev), st.Ino} //nolint:unconvert // 32 bits wide on some architectures
}

type walker struct {
	ctx  context.Context
	root string
	opts Options
	do   func(Entry) error
	seen map[fileID]string // first name of each file that has several
	buf  []byte            // for extended attributes
}

func (w *walker) top(root *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(root.Fd()), &st); err != nil {
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
func (w *walker) children(dir *os.File, prefix string) error {
	names, err := dir.Readdirnames(-1)
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
func (w *walker) one(dir *os.File, base, name string) error {
	fd := int(dir.Fd())
	var st unix.Stat_t
	if err := unix.Fstatat(fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("looking at %.200q: %w", name, err)
	}
	e := fromStat(name, &st)
	var err error
	switch e.Mode.Type() {
	case 0:
		from := &source{dir: dir, base: base, root: w.root, name: name, id: idOf(&st)}
		e.Open = from.open
	case fs.ModeSymlink:
		if e.Link, err = readlink(fd, base, int(st.Size)); err != nil {
			return fmt.Errorf("reading link %.200q: %w", name, err)
		}
	}
	if st.Nlink > 1 && !e.Mode.IsDir() {
		e.HardLink = w.earlier(idOf(&st), name)
	}
	if err := w.attributes(dir, base, &e); err != nil {
		return err
	}
	if err := w.do(w.opts.Normal.Apply(e)); err != nil || !e.Mode.IsDir() {
		return err
	}
	return w.below(fd, base, name, idOf(&st))
}

// earlier returns the first name of a file, empty for that name itself.
func (w *walker) earlier(id fileID, name string) string {
	first, again := w.seen[id]
	if !again {
		w.seen[id] = name
	}
	return first
}

func (w *walker) below(parent int, base, name string, id fileID) error {
	fd, err := unix.Openat(parent, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening directory %.200q: %w", name, err)
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	if err := sameFile(fd, id); err != nil {
		return fmt.Errorf("opening directory %.200q: %w", name, err)
	}
	return w.children(dir, name+"/")
}

// errExchanged reports that a name now refers to another file.
var errExchanged = errors.New("it was exchanged while the tree was read")

func sameFile(fd int, want fileID) error {
	id, err := identify(fd)
	if err == nil && id != want {
		err = errExchanged
	}
	return err
}

func identify(fd int) (fileID, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return idOf(&st), err
}

func readlink(dir int, base string, size int) (string, error) {
	for room := max(size, 127) + 1; ; room *= 2 {
		target := make([]byte, room)
		n, err := unix.Readlinkat(dir, base, target)
		if err != nil {
			return "", err
		}
		if n < room {
			return string(target[:n]), nil
		}
	}
}

func fromStat(name string, st *unix.Stat_t) Entry {
	e := Entry{Name: name, Mode: FileMode(st.Mode), UID: st.Uid, GID: st.Gid, ModTime: modTime(st)}
	switch {
	case e.Mode.IsRegular():
		e.Size = st.Size
	case e.Mode&fs.ModeDevice != 0:
		rdev := uint64(st.Rdev) //nolint:unconvert // 32 bits wide on some architectures
		e.Major, e.Minor = unix.Major(rdev), unix.Minor(rdev)
	}
	return e
}

// source is where the content of an entry comes from.
type source struct {
	dir  *os.File // the directory, while it is being walked
	base string
	root string
	name string
	id   fileID
}

// contentFlags keep the open from blocking if a FIFO or a device has replaced the file.
const contentFlags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOFOLLOW | unix.O_CLOEXEC

func (s *source) open() (io.ReadCloser, error) {
	f, err := s.near()
	if f == nil && err == nil {
		f, err = s.far()
	}
	if errors.Is(err, unix.ELOOP) {
		err = errExchanged
	}
	if err != nil {
		return nil, fmt.Errorf("opening %.200q: %w", s.name, err)
	}
	return f, nil
}

// near opens the file from its directory; it returns nil without an error when the
// directory is closed.
func (s *source) near() (*os.File, error) {
	if s.dir == nil {
		return nil, nil
	}
	conn, err := s.dir.SyscallConn()
	if err != nil {
		return nil, nil
	}
	var fd int
	var openErr error
	if conn.Control(func(dir uintptr) { fd, openErr = unix.Openat(int(dir), s.base, contentFlags, 0) }) != nil {
		return nil, nil
	}
	if openErr != nil {
		return nil, openErr
	}
	if err := sameFile(fd, s.id); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), s.name), nil
}

// far opens the file from the root of the tree and stays below it.
func (s *source) far() (*os.File, error) {
	root, err := unix.Open(s.root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(root)
	how := unix.OpenHow{Flags: contentFlags, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
	fd, err := unix.Openat2(root, s.name, &how)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) { // before Linux 5.6, or kept away by a container engine
		return s.stepwise()
	}
	if err != nil {
		return nil, err
	}
	if err := sameFile(fd, s.id); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), s.name), nil
}

// stepwise does what far does on kernels without openat2, with at least one system call
// for every directory on the path.
func (s *source) stepwise() (*os.File, error) {
	root, err := os.OpenRoot(s.root)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.OpenFile(s.name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if err := sameFile(int(f.Fd()), s.id); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

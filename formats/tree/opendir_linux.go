package tree

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/filestat"
)

// openDir is a directory that is being walked.
type openDir struct{ *os.File }

// openTop opens the directory to be walked; it may be a symbolic link.
func openTop(path string) (openDir, error) {
	f, err := os.OpenFile(path, unix.O_DIRECTORY, 0)
	return openDir{f}, err
}

func (d openDir) stat() (filestat.Stat, error) { return filestat.OfFile(d.File) }

func (d openDir) names() ([]string, error) { return d.Readdirnames(-1) }

func (d openDir) lstat(base string) (filestat.Stat, error) { return filestat.OfLinkName(d.File, base) }

func (d openDir) readlink(base string, size int) (string, error) {
	for room := max(size, 127) + 1; ; room *= 2 {
		target := make([]byte, room)
		n, err := unix.Readlinkat(int(d.Fd()), base, target)
		if err != nil {
			return "", err
		}
		if n < room {
			return string(target[:n]), nil
		}
	}
}

// enter opens a directory in it, which must not be a symbolic link.
func (d openDir) enter(base, name string) (openDir, error) {
	fd, err := unix.Openat(int(d.Fd()), base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return openDir{}, err
	}
	return openDir{os.NewFile(uintptr(fd), name)}, nil
}

// noWait keeps an open from waiting if a FIFO or a device has replaced the file.
const noWait = unix.O_NONBLOCK

const contentFlags = unix.O_RDONLY | noWait | unix.O_NOFOLLOW | unix.O_CLOEXEC

// near opens the file from its directory; it returns nil without an error when the
// directory is closed.
func (s *source) near() (*os.File, error) {
	if s.dir.File == nil {
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
	return s.same(os.NewFile(uintptr(fd), s.name))
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
	return s.same(os.NewFile(uintptr(fd), s.name))
}

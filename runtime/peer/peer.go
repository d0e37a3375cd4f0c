// Package peer provides unix sockets whose server knows the process on the other
// side: listeners, connections with the credentials of the peer, and a guard that
// keeps one peer from using up the connections of all.
//
// The kernel records the process that connected. Its PID may be reused during a
// look-up, so the server holds a pidfd meanwhile: when the process is still alive
// afterwards, the PID referred to it all the time.
package peer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/pidfd"
)

// maxPath is the longest path that fits sockaddr_un with its final NUL.
const maxPath = 107

// peerPIDFD is SO_PEERPIDFD of asm-generic/socket.h, known since Linux 6.5.
const peerPIDFD = 77

// errGone means that the peer's process ended before it could be identified.
var errGone = errors.New("the peer's process has ended")

// Listener accepts connections on one unix stream socket.
type Listener struct {
	file   *os.File
	path   string
	closed atomic.Bool
	spare  spare
}

// spare holds descriptors back for the time when the process has no others left: a
// client is then still accepted, identified and answered, with these.
type spare struct {
	mu  sync.Mutex
	fds []int
}

// spares is what one connection takes: itself, its process, namespaces, and files of
// the answer.
const spares = 8

// fill takes the descriptors that are missing, as long as any are left.
func (s *spare) fill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.fds) < spares {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
		if err != nil {
			return
		}
		s.fds = append(s.fds, fd)
	}
}

// spend gives the descriptors up and reports whether there were any.
func (s *spare) spend() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	some := len(s.fds) > 0
	for _, fd := range s.fds {
		_ = unix.Close(fd)
	}
	s.fds = nil
	return some
}

// Listen makes the socket at path with the given permission bits and queue
// length. A socket that an earlier process left there is replaced; anything else
// at that path is an error. The path may be longer than sockaddr_un allows.
func Listen(path string, perm os.FileMode, backlog int) (*Listener, error) {
	if err := removeStale(path); err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("making a unix socket: %w", err)
	}
	l := &Listener{file: os.NewFile(uintptr(fd), path), path: path}
	if err := l.bind(fd, perm, backlog); err != nil {
		_ = l.file.Close()
		return nil, fmt.Errorf("listening on %s: %w", path, err)
	}
	return l, nil
}

func (l *Listener) bind(fd int, perm os.FileMode, backlog int) error {
	err := withShortPath(l.path, func(short string) error {
		return unix.Bind(fd, &unix.SockaddrUnix{Name: short})
	})
	if err != nil {
		return err
	}
	if err := os.Chmod(l.path, perm); err != nil {
		return err
	}
	l.spare.fill()
	return unix.Listen(fd, backlog)
}

func removeStale(path string) error {
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("looking for an old socket: %w", err)
	case st.Mode()&fs.ModeSocket == 0:
		return fmt.Errorf("making the socket %s: the path exists and is not a socket", path)
	}
	return os.Remove(path)
}

// withShortPath calls f with a name of path that fits sockaddr_un.
func withShortPath(path string, f func(string) error) error {
	if len(path) <= maxPath {
		return f(path)
	}
	dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening the directory of %s: %w", path, err)
	}
	defer unix.Close(dir)
	return f("/proc/self/fd/" + strconv.Itoa(dir) + "/" + filepath.Base(path))
}

// ListenPacket makes a datagram socket at path, as [Listen] does. The caller reads the
// peers' datagrams from it, and removes the path after closing it.
func ListenPacket(path string, perm os.FileMode) (*os.File, error) {
	if err := removeStale(path); err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("making a unix socket: %w", err)
	}
	err = withShortPath(path, func(short string) error { return unix.Bind(fd, &unix.SockaddrUnix{Name: short}) })
	if err == nil {
		err = os.Chmod(path, perm)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("listening on %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// Path returns the path of the socket.
func (l *Listener) Path() string { return l.path }

// Close stops accepting and removes the socket.
func (l *Listener) Close() error {
	l.closed.Store(true)
	l.spare.spend()
	err := l.file.Close()
	if rm := os.Remove(l.path); err == nil && rm != nil && !errors.Is(rm, fs.ErrNotExist) {
		err = rm
	}
	return err
}

// Accept waits for the next connection. When the process has no descriptor left it uses
// one that it holds back. After Close it returns an error that wraps os.ErrClosed.
func (l *Listener) Accept() (*Conn, error) {
	raw, err := l.file.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("accepting on %s: %w", l.path, err)
	}
	fd, acceptErr := -1, error(nil)
	err = raw.Read(func(s uintptr) bool {
		fd, acceptErr = l.accept(int(s))
		return !errors.Is(acceptErr, unix.EAGAIN)
	})
	switch {
	case l.closed.Load():
		err = os.ErrClosed
	case err == nil:
		err = acceptErr
	}
	if err != nil {
		return nil, fmt.Errorf("accepting on %s: %w", l.path, err)
	}
	return newConn(fd)
}

func (l *Listener) accept(s int) (int, error) {
	l.spare.fill()
	fd, err := accept(s)
	if (errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE)) && l.spare.spend() {
		return accept(s)
	}
	return fd, err
}

func accept(s int) (int, error) {
	for {
		fd, _, err := unix.Accept4(s, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		if err != unix.EINTR && err != unix.ECONNABORTED {
			return fd, err
		}
	}
}

// Dial connects to the unix stream socket at path, which may be longer than sockaddr_un
// allows. While the queue is full it waits up to a limit, after which it returns
// os.ErrDeadlineExceeded; 0 is no limit.
func Dial(path string, wait time.Duration) (*Conn, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("making a unix socket: %w", err)
	}
	err = withShortPath(path, func(short string) error {
		return dial(fd, &unix.SockaddrUnix{Name: short}, wait)
	})
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("connecting to %s: %w", path, err)
	}
	return newConn(fd)
}

// dial waits for room in the queue as Dial does, through signals: these interrupt a wait
// that is limited.
func dial(fd int, to unix.Sockaddr, wait time.Duration) error {
	end := time.Now().Add(wait)
	for {
		limit := unix.NsecToTimeval(wait.Nanoseconds())
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit); err != nil {
			return fmt.Errorf("limiting the wait for a connection: %w", err)
		}
		switch err := unix.Connect(fd, to); err {
		case unix.EINTR:
		case unix.EAGAIN:
			return os.ErrDeadlineExceeded
		default:
			return err
		}
		if wait == 0 {
			continue
		}
		if wait = time.Until(end); wait < time.Microsecond { // the kernel takes less for no limit
			return os.ErrDeadlineExceeded
		}
	}
}

// Conn is one connection. It supports deadlines.
type Conn struct {
	*os.File
	PID int // the peer's process at the time it connected; 0 when its PID namespace is not ours
	UID int // its effective user
}

func newConn(fd int) (*Conn, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("reading the peer's credentials: %w", err)
	}
	return &Conn{File: os.NewFile(uintptr(fd), "unix"), PID: int(cred.Pid), UID: int(cred.Uid)}, nil
}

func (c *Conn) control(f func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// Identify calls resolve with the peer's process ID and returns its result. The error
// wraps ErrGone when the process ended meanwhile, because the ID may then have been
// another process's.
func Identify[T any](c *Conn, resolve func(pid int) (T, error)) (T, error) {
	var zero T
	process, err := c.process()
	if err != nil {
		return zero, fmt.Errorf("identifying process %d: %w", c.PID, errGone)
	}
	defer unix.Close(process)
	who, err := resolve(c.PID)
	if err != nil {
		return zero, fmt.Errorf("identifying process %d: %w", c.PID, err)
	}
	if pidfd.Ended(process) {
		return zero, fmt.Errorf("identifying process %d: %w", c.PID, errGone)
	}
	return who, nil
}

// process opens a pidfd of the peer's process, from the socket where the kernel
// supports it, otherwise by PID.
func (c *Conn) process() (int, error) {
	process := -1
	err := c.control(func(fd int) (err error) {
		process, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, peerPIDFD)
		return err
	})
	if err == nil {
		return process, nil
	}
	if c.PID <= 0 {
		return -1, errGone
	}
	return unix.PidfdOpen(c.PID, 0)
}

// NamedHierarchy is the v1 hierarchy used on machines without a cgroup v2 tree.
const NamedHierarchy = "pantavisor"

// Cgroup returns the path of a process in the cgroup v2 tree, or with named in the v1
// hierarchy [NamedHierarchy], as /proc/PID/cgroup shows it. The caller chooses the
// hierarchy, because a container that may mount can make one of any name and put
// processes anywhere in it.
func Cgroup(pid int, named bool) (string, error) {
	var small [512]byte // the v2 tree alone takes a line
	text, err := readProc("/proc/"+strconv.Itoa(pid)+"/cgroup", small[:0])
	if err != nil {
		return "", fmt.Errorf("reading the cgroup of process %d: %w", pid, err)
	}
	return parseCgroup(string(text), named)
}

// readProc reads a file of /proc into the buffer, or a larger one. Every connection
// waits for it: os.ReadFile would make system calls for the size and for the poller,
// which does not support these files.
func readProc(path string, text []byte) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	for {
		if len(text) == cap(text) {
			text = slices.Grow(text, max(len(text), minProc))
		}
		n, err := unix.Read(fd, text[len(text):cap(text)])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, err
		case n == 0:
			return text, nil
		default:
			text = text[:len(text)+n]
		}
	}
}

// minProc is the least free space in the buffer for a read of readProc, in bytes.
const minProc = 512

func parseCgroup(text string, named bool) (string, error) {
	mark := "0::"
	if named {
		mark = "name=" + NamedHierarchy + ":"
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if named { // after any hierarchy number
			_, line, _ = strings.Cut(line, ":")
		}
		if p, ok := strings.CutPrefix(line, mark); ok {
			return p, nil
		}
	}
	return "", fmt.Errorf("the process has no cgroup in the hierarchy %q", mark)
}

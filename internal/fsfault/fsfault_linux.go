//go:build amd64 || arm64

package fsfault

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// envIsolated is set in the process that [Isolated] starts.
const envIsolated = "PANTAVISOR_TEST_ISOLATED"

// channel is the socket between the two processes, in the one whose operations fail.
const channel = 3

// call is a system call with the arguments that say on which file it acts: the descriptor of
// a directory or file, and the path, negative when there is none.
type call struct {
	name     string
	fd, path int
}

// calls are the system calls that change files.
var calls = map[uintptr]call{
	unix.SYS_OPENAT: {"openat", 0, 1}, unix.SYS_MKDIRAT: {"mkdirat", 0, 1}, unix.SYS_UNLINKAT: {"unlinkat", 0, 1},
	unix.SYS_RENAMEAT: {"renameat", 2, 3}, unix.SYS_RENAMEAT2: {"renameat2", 2, 3}, unix.SYS_LINKAT: {"linkat", 2, 3},
	unix.SYS_SYMLINKAT: {"symlinkat", 1, 2}, unix.SYS_FCHMODAT: {"fchmodat", 0, 1}, unix.SYS_FCHMOD: {"fchmod", 0, -1},
	unix.SYS_FCHOWNAT: {"fchownat", 0, 1}, unix.SYS_UTIMENSAT: {"utimensat", 0, 1}, unix.SYS_TRUNCATE: {"truncate", -1, 0},
	unix.SYS_FTRUNCATE: {"ftruncate", 0, -1}, unix.SYS_WRITE: {"write", 0, -1}, unix.SYS_PWRITE64: {"pwrite64", 0, -1},
	unix.SYS_WRITEV: {"writev", 0, -1}, unix.SYS_FSYNC: {"fsync", 0, -1}, unix.SYS_FDATASYNC: {"fdatasync", 0, -1},
	unix.SYS_SYNCFS: {"syncfs", 0, -1}, unix.SYS_SYNC_FILE_RANGE: {"sync_file_range", 0, -1}, unix.SYS_FALLOCATE: {"fallocate", 0, -1}, unix.SYS_SETXATTR: {"setxattr", -1, 0},
	unix.SYS_FSETXATTR: {"fsetxattr", 0, -1}, unix.SYS_COPY_FILE_RANGE: {"copy_file_range", 2, -1}, unix.SYS_SENDFILE: {"sendfile", 0, -1},
}

// reads are those that read files; so does openat, see [notice.reads].
var reads = map[uintptr]call{
	unix.SYS_READ: {"read", 0, -1}, unix.SYS_PREAD64: {"pread64", 0, -1}, unix.SYS_GETDENTS64: {"getdents64", 0, -1},
}

// Faults makes operations of this process fail.
type Faults struct{}

// Isolated runs work, which must be all of the test, in another process with a source of faults.
func Isolated(t *testing.T, work func(*Faults)) {
	t.Helper()
	if os.Getenv(envIsolated) != "" {
		if err := installFilter(); err != nil {
			t.Fatalf("catching file operations: %v", err)
		}
		work(&Faults{})
		return
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "channel")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env, cmd.ExtraFiles = append(os.Environ(), envIsolated+"=1"), []*os.File{theirs}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err = cmd.Start()
	_ = theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	s := &supervisor{socket: pair[0]}
	defer unix.Close(s.socket)
	if err := s.run(); err != nil {
		_ = cmd.Process.Kill()
		t.Errorf("supervising the test: %v", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	t.Logf("%s", said.String())
}

// During does something while a fault is in force.
func (*Faults) During(f Fault, do func()) (Result, error) {
	if _, err := request(f); err != nil {
		return Result{}, err
	}
	do()
	return request(Fault{})
}

// request sets a fault and returns what happened with the one before.
func request(f Fault) (r Result, err error) {
	text, err := json.Marshal(f)
	if err == nil {
		_, err = unix.SendmsgN(channel, text, nil, nil, 0)
	}
	answer := make([]byte, 4096)
	var n int
	if err == nil {
		n, _, _, _, err = unix.Recvmsg(channel, answer, nil, 0)
	}
	if err == nil {
		err = json.Unmarshal(answer[:n], &r)
	}
	if err != nil {
		return r, fmt.Errorf("asking for a fault: %w", err)
	}
	return r, nil
}

// dataNumber is the offset of the call's number in struct seccomp_data (seccomp(2)).
const dataNumber = 0

// program returns the filter.
func program() []unix.SockFilter {
	const (
		load = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		jeq  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		ret  = unix.BPF_RET | unix.BPF_K
	)
	p := []unix.SockFilter{{Code: load, K: dataNumber}}
	for _, numbers := range []map[uintptr]call{calls, reads} {
		for number := range numbers {
			p = append(p, unix.SockFilter{Code: jeq, K: uint32(number), Jf: 1}, unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_USER_NOTIF})
		}
	}
	return append(p, unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW})
}

// installFilter installs the filter in all threads and sends its listener to the supervisor.
func installFilter() error {
	p := program()
	prog := unix.SockFprog{Len: uint16(len(p)), Filter: &p[0]}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("setting no_new_privs: %w", err)
	}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|unix.SECCOMP_FILTER_FLAG_TSYNC|unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("installing the filter: %w", errno)
	}
	defer unix.Close(int(fd))
	if _, err := unix.SendmsgN(channel, []byte("{}"), unix.UnixRights(int(fd)), nil, 0); err != nil {
		return fmt.Errorf("sending the listener: %w", err)
	}
	_, _, _, _, err := unix.Recvmsg(channel, make([]byte, 4096), nil, 0)
	return err
}

// notice is struct seccomp_notif, with struct seccomp_data.
type notice struct {
	id         uint64
	pid, flags uint32
	number     int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

// verdict is struct seccomp_notif_resp.
type verdict struct {
	id    uint64
	val   int64
	err   int32
	flags uint32
}

// supervisor decides about the operations of the other process.
type supervisor struct {
	socket int
	mu     sync.Mutex
	fault  Fault
	result Result
}

// run supervises the process until it ends.
func (s *supervisor) run() error {
	text, rights := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(s.socket, text, rights, unix.MSG_CMSG_CLOEXEC)
	if err != nil || n == 0 {
		return err // it ended early, and says why
	}
	messages, err := unix.ParseSocketControlMessage(rights[:n])
	if err != nil || len(messages) != 1 {
		return fmt.Errorf("getting the listener: %d messages, %w", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return fmt.Errorf("getting the listener: %d descriptors, %w", len(fds), err)
	}
	defer unix.Close(fds[0])
	failed := make(chan error, 1)
	go func() { failed <- s.decide(fds[0]) }()
	if err := s.answer(); err != nil {
		return err
	}
	return <-failed
}

// answer answers requests until the process ends.
func (s *supervisor) answer() error {
	text := []byte("{}")
	for {
		var f Fault
		if err := json.Unmarshal(text, &f); err != nil {
			return fmt.Errorf("reading a request: %w", err)
		}
		s.mu.Lock()
		r := s.result
		s.fault, s.result = f, Result{}
		s.mu.Unlock()
		reply, err := json.Marshal(r)
		if err != nil {
			return err
		}
		if _, err := unix.SendmsgN(s.socket, reply, nil, nil, unix.MSG_NOSIGNAL); err != nil {
			return fmt.Errorf("answering a request: %w", err)
		}
		text = make([]byte, 4096)
		n, _, _, _, err := unix.Recvmsg(s.socket, text, nil, 0)
		if n == 0 || err != nil {
			return err
		}
		text = text[:n]
	}
}

// decide decides about operations until no process has the filter.
func (s *supervisor) decide(listener int) error {
	for {
		ready := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(ready, -1); errors.Is(err, unix.EINTR) {
			continue
		}
		if ready[0].Revents&unix.POLLIN == 0 {
			return nil
		}
		var n notice
		if err := ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&n)); errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENOENT) {
			continue
		} else if err != nil {
			return fmt.Errorf("waiting for operations: %w", err)
		}
		v := verdict{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
		if errno := s.verdict(&n); errno != 0 {
			v.err, v.flags = -int32(errno), 0
		}
		if err := ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&v)); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("answering an operation: %w", err)
		}
	}
}

func ioctl(fd int, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// verdict returns the error of an operation, 0 to let it happen.
func (s *supervisor) verdict(n *notice) unix.Errno {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault.Dir == "" || n.reads() && !s.fault.Reads {
		return 0
	}
	path := n.path()
	if path != s.fault.Dir && !strings.HasPrefix(path, s.fault.Dir+"/") {
		return 0
	}
	s.result.Count++
	if s.fault.Nth == 0 || s.result.Count < s.fault.Nth || s.result.Count > s.fault.Nth && !s.fault.Lasting {
		return 0
	}
	if s.result.Failed == "" {
		s.result.Failed = n.call().name + " " + path
	}
	return s.fault.Errno
}

// call returns the call of an operation.
func (n *notice) call() call {
	if c, ok := calls[uintptr(n.number)]; ok {
		return c
	}
	return reads[uintptr(n.number)]
}

// reads reports whether an operation reads a file.
func (n *notice) reads() bool {
	if n.number == unix.SYS_OPENAT {
		const changes = unix.O_WRONLY | unix.O_RDWR | unix.O_CREAT | unix.O_TRUNC
		return n.args[2]&changes == 0
	}
	_, ok := reads[uintptr(n.number)]
	return ok
}

// path returns the file that an operation changes or reads, "" when it cannot be known.
func (n *notice) path() string {
	call := n.call()
	var path, dir string
	if call.path >= 0 {
		path = readString(int(n.pid), uintptr(n.args[call.path]))
	}
	if filepath.IsAbs(path) {
		return path
	}
	fd := fmt.Sprintf("/proc/%d/cwd", n.pid)
	if call.fd >= 0 && int32(n.args[call.fd]) != unix.AT_FDCWD {
		fd = fmt.Sprintf("/proc/%d/fd/%d", n.pid, int32(n.args[call.fd]))
	}
	dir, _ = os.Readlink(fd)
	return filepath.Join(dir, path)
}

// readString reads a string of C out of the memory of a process.
func readString(pid int, at uintptr) string {
	var text []byte
	for len(text) < unix.PathMax {
		// Not over the end of a page: the next one may not exist.
		piece := make([]byte, 256-at%256)
		n, err := unix.ProcessVMReadv(pid, []unix.Iovec{{Base: &piece[0], Len: uint64(len(piece))}},
			[]unix.RemoteIovec{{Base: at, Len: len(piece)}}, 0)
		if err != nil || n == 0 {
			break
		}
		if i := bytes.IndexByte(piece[:n], 0); i >= 0 {
			return string(append(text, piece[:i]...))
		}
		text, at = append(text, piece[:n]...), at+uintptr(n)
	}
	return string(text)
}

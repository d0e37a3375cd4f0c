// Package program runs this program from a sealed copy in memory, which nobody can
// change.
//
// Processes in a container can open the file of a process that runs this program
// through /proc/PID/exe, and an init that begins with "#!/proc/self/exe" is such a
// process for as long as it wants. A read-only mount is not enough: whoever may mount
// can make the mount writable again once nothing executes the file (mount_setattr(2)).
// Every process that a container can see therefore executes a memory file with all
// seals of fcntl(2).
package program

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// self is the kernel's link to this program.
const self = "/proc/self/exe"

// envFile is the environment variable with the program's path for a process that runs
// from a copy, which has no path.
const envFile = "PV_PROGRAM_FILE"

// seals make the content of a memory file final.
const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// current is the copy that this process executes others from.
var current = struct {
	sync.Mutex
	fd   int // of the copy that this process has made; -1 without one
	path string
}{fd: -1}

// Path returns the path to execute for a process of this program that containers can
// see: a sealed copy of the program. It is valid while this process runs, also in its
// children. The first call copies the program unless this process runs from a copy.
func Path() (string, error) {
	c := &current
	c.Lock()
	defer c.Unlock()
	proc := "/proc/" + strconv.Itoa(os.Getpid())
	if c.path == "" && isSealed() {
		c.path = proc + "/exe"
	}
	// Before Linux 6.3 user 0 in a container can change the mode of a copy.
	if isExecutable(c.path) {
		return c.path, nil
	}
	fd, err := seal()
	if err != nil {
		return "", fmt.Errorf("copying this program to memory: %w", err)
	}
	if c.fd < 0 {
		c.fd = fd
	} else if err := replace(fd, c.fd); err != nil {
		return "", fmt.Errorf("replacing the copy of this program: %w", err)
	}
	c.path = proc + "/fd/" + strconv.Itoa(c.fd)
	return c.path, nil
}

// replace makes the descriptor old one of the file of fd, and closes fd.
func replace(fd, old int) error {
	defer unix.Close(fd)
	return unix.Dup3(fd, old, unix.O_CLOEXEC)
}

func isExecutable(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().Perm()&0o111 == 0o111
}

// seal copies the program and returns a descriptor of the copy.
func seal() (int, error) {
	// A child that is forked meanwhile would hold the writable descriptor until it
	// executes, and the copy could not be executed (ETXTBSY).
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	from, err := os.Open(self)
	if err != nil {
		return -1, err
	}
	defer from.Close()
	fd, err := memoryFile()
	if err != nil {
		return -1, err
	}
	to := os.NewFile(uintptr(fd), "copy of this program")
	defer to.Close()
	if _, err := io.Copy(to, from); err != nil {
		return -1, err
	}
	if err := to.Chmod(0o555); err != nil {
		return -1, err
	}
	_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals|unix.F_SEAL_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	}
	if err != nil {
		return -1, err
	}
	return unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

// memoryFile makes an empty file that may be executed and sealed.
func memoryFile() (int, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("pantavisor", flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3 every memory file may be executed
		fd, err = unix.MemfdCreate("pantavisor", flags)
	}
	if errors.Is(err, unix.EACCES) {
		err = fmt.Errorf("%w; the kernel parameter vm.memfd_noexec must not be 2", err)
	}
	return fd, err
}

// isSealed reports whether this process runs from a sealed copy.
func isSealed() bool {
	fd, err := unix.Open(self, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	got, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	return err == nil && got&seals == seals
}

// Rerun executes this program again from a sealed copy, with the same arguments. It
// returns nil when the program already runs from one.
func Rerun() error {
	if isSealed() {
		return nil
	}
	return Exec()
}

// Exec executes this program again from a sealed copy, with the same arguments and the
// present environment. It returns only with an error.
func Exec() error {
	file, err := File()
	if err != nil {
		return fmt.Errorf("finding the file of this program: %w", err)
	}
	path, err := Path()
	if err != nil {
		return err
	}
	env := append(os.Environ(), envFile+"="+file)
	return fmt.Errorf("executing this program again: %w", syscall.Exec(path, os.Args, env))
}

// File returns the path of the program's file, as [os.Executable] does, also after
// [Rerun].
func File() (string, error) {
	if file := os.Getenv(envFile); file != "" && isSealed() {
		return file, nil
	}
	return os.Executable()
}

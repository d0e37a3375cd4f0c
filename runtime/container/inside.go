package container

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/pidfd"
)

// Open opens a file below /proc/PID of init, such as "root" or "mountinfo". It fails
// when init has ended, so the file never belongs to another process.
func (p *Process) Open(name string, flags int) (*os.File, error) {
	fd, err := unix.Open("/proc/"+strconv.Itoa(p.PID)+"/"+name, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening %s of container %s: %w", name, p.Name, err)
	}
	if !p.alive() {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("opening %s of container %s: %w", name, p.Name, unix.ESRCH)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// alive reports whether init has not ended yet.
func (p *Process) alive() bool {
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return false
	}
	ended := true
	err = raw.Control(func(fd uintptr) { ended = pidfd.Ended(int(fd)) })
	return err == nil && !ended
}

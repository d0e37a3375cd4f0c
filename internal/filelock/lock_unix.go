//go:build unix

package filelock

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// blocking is true because a file can be closed while a call waits for its lock.
const blocking = true

func openFile(path string, opt Options) (*os.File, error) {
	if opt.Create == 0 {
		return os.Open(path)
	}
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, opt.Create)
}

// leave does nothing: the lock of a directory needs no file.
func (l *Lock) leave() {}

func lockFile(fd uintptr, m mode, wait bool) error {
	how := [...]int{unlocked: unix.LOCK_UN, shared: unix.LOCK_SH, exclusive: unix.LOCK_EX}[m]
	if !wait {
		how |= unix.LOCK_NB
	}
	return again(func() error { return unix.Flock(int(fd), how) })
}

// again calls a system call until no signal interrupts it.
func again(call func() error) error {
	for {
		err := call()
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EWOULDBLOCK), errors.Is(err, unix.EACCES):
			return ErrHeld
		default:
			return err
		}
	}
}

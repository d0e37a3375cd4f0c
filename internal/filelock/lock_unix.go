//go:build unix

package filelock

import (
	"errors"

	"golang.org/x/sys/unix"
)

// noFollow refuses a symbolic link in place of a lock file.
const noFollow = unix.O_NOFOLLOW

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

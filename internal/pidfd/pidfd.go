// Package pidfd looks at processes through their descriptors (pidfd_open(2)).
package pidfd

import "golang.org/x/sys/unix"

// Ended reports whether the process of an open descriptor has ended. It does not wait.
func Ended(fd int) bool {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}} // readable once it has ended
	for {
		// A signal, such as Go's own to its threads, interrupts even a poll that does not wait.
		if n, err := unix.Poll(poll, 0); err != unix.EINTR {
			return err != nil || n != 0
		}
	}
}

//go:build unix && !linux

package tree

import "golang.org/x/sys/unix"

// noWait keeps an open from waiting if a FIFO or a device has replaced the file.
const noWait = unix.O_NONBLOCK

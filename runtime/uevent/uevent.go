// Package uevent receives the kernel's device events (kobject_uevent, netlink protocol
// 15, multicast group 1), which report that a device was added, changed or removed.
//
// An event is a datagram of NUL-terminated strings: "ACTION@DEVPATH" and then
// KEY=VALUE pairs (kernel documentation, "Kernel API: kobject_uevent").
package uevent

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// ErrLost means that the kernel dropped events because they were not read in time. The
// caller should scan /sys again.
var ErrLost = errors.New("device events were lost")

const (
	kernelGroup  = 1         // events of the kernel itself; group 2 is udev's
	receiveBytes = 256 << 10 // enough for the burst of a cold boot
	maxEvent     = 8 << 10   // the kernel's UEVENT_BUFFER_SIZE is 2048, plus the header
)

// Event is one device event.
type Event struct {
	Action string // add, remove, change, bind, unbind, move, online, offline
	Path   string // below /sys, for example /devices/pci0000:00/0000:00:03.0
	Env    map[string]string
}

// Conn is a subscription to device events.
type Conn struct {
	file   *os.File
	buf    []byte
	closed atomic.Bool
}

// Listen subscribes to events. The kernel queues them until they are read.
func Listen() (*Conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("opening a socket for device events: %w", err)
	}
	// This needs the capability net_admin; with the default size ErrLost is more likely.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBytes)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelGroup}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("subscribing to device events: %w", err)
	}
	return &Conn{file: os.NewFile(uintptr(fd), "uevent"), buf: make([]byte, maxEvent)}, nil
}

// Next waits for the next event. It returns ErrLost when events were dropped, and
// an error that wraps os.ErrClosed after Close.
func (c *Conn) Next() (Event, error) {
	for {
		n, from, err := c.receive()
		switch {
		case errors.Is(err, unix.ENOBUFS):
			return Event{}, ErrLost
		case err != nil:
			return Event{}, fmt.Errorf("reading device events: %w", err)
		case !fromKernel(from):
			continue
		}
		if e, ok := parse(c.buf[:n]); ok {
			return e, nil
		}
	}
}

func (c *Conn) receive() (n int, from unix.Sockaddr, err error) {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return 0, nil, err
	}
	var rerr error
	err = raw.Read(func(fd uintptr) bool {
		n, from, rerr = unix.Recvfrom(int(fd), c.buf, 0)
		return !errors.Is(rerr, unix.EAGAIN) && !errors.Is(rerr, unix.EINTR)
	})
	switch {
	case c.closed.Load():
		err = os.ErrClosed // a raw connection's own error is not comparable
	case err == nil:
		err = rerr
	}
	return n, from, err
}

// fromKernel reports whether the kernel sent a message: the netlink address of a process
// has a port.
func fromKernel(from unix.Sockaddr) bool {
	nl, ok := from.(*unix.SockaddrNetlink)
	return ok && nl.Pid == 0
}

// Close ends the subscription and wakes a waiting Next.
func (c *Conn) Close() error {
	c.closed.Store(true)
	return c.file.Close()
}

// parse reads one datagram; ok is false when it is not a kernel event.
func parse(b []byte) (e Event, ok bool) {
	fields := bytes.Split(bytes.TrimRight(b, "\x00"), []byte{0})
	action, path, ok := strings.Cut(string(fields[0]), "@")
	if !ok || action == "" || !strings.HasPrefix(path, "/") {
		return Event{}, false
	}
	e = Event{Action: action, Path: path, Env: make(map[string]string, len(fields)-1)}
	for _, f := range fields[1:] {
		if k, v, ok := strings.Cut(string(f), "="); ok {
			e.Env[k] = v
		}
	}
	return e, true
}

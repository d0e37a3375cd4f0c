package ctrl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/uevent"
)

// portName is the name of the virtio-serial port over which the host of a
// virtual machine talks to the control API.
const portName = "org.pantavisor.ctrl.0"

// portCaller is the caller on the port. Only the hypervisor can make a port, and it
// controls the machine anyway, so it has the rights of the runtime.
var portCaller = Caller{Name: Runtime, Mgmt: true}

// ServePort answers on the virtio-serial port org.pantavisor.ctrl.0 until ctx ends.
// Without such a port it waits for one to be plugged in. On a kernel without device
// events it looks once and returns.
func (s *Server) ServePort(ctx context.Context) error {
	return s.servePorts(ctx, "/sys/class/virtio-ports", "/dev")
}

func (s *Server) servePorts(ctx context.Context, class, dev string) error {
	events, err := uevent.Listen()
	if err == nil {
		defer events.Close()
		stop := context.AfterFunc(ctx, func() { _ = events.Close() })
		defer stop()
	}
	for ctx.Err() == nil {
		if name := findPort(class, portName); name != "" {
			err := s.servePort(ctx, filepath.Join(dev, name))
			if ctx.Err() != nil {
				break
			}
			s.o.Log.Infof("control port %s: %v", name, err)
			if !pause(ctx, time.Second) {
				break
			}
			continue
		}
		if events == nil {
			return fmt.Errorf("waiting for the control port: %w", err)
		}
		if waitFor(events, "virtio-ports") != nil {
			break
		}
	}
	return nil
}

// waitFor returns after an event that may have brought a device of a subsystem.
func waitFor(events *uevent.Conn, subsystem string) error {
	for {
		e, err := events.Next()
		switch {
		case errors.Is(err, uevent.ErrLost):
			return nil
		case err != nil:
			return err
		case e.Env["SUBSYSTEM"] == subsystem:
			return nil
		}
	}
}

// findPort returns the device name of the port called name, "vport1p1".
func findPort(class, name string) string {
	dirs, _ := filepath.Glob(filepath.Join(class, "*/name"))
	for _, file := range dirs {
		text, err := os.ReadFile(file)
		if err == nil && strings.TrimSpace(string(text)) == name {
			return filepath.Base(filepath.Dir(file))
		}
	}
	return ""
}

// servePort answers one connection of the host after the other on a port. It returns
// when the port is removed or ctx ends.
func (s *Server) servePort(ctx context.Context, device string) error {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("opening the control port: %w", err)
	}
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { _ = f.Close() })
	defer stop()
	port := &port{in: f, out: f}
	for ctx.Err() == nil && !port.dead() {
		s.ServeConn(ctx, &portSession{port: port}, portCaller)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return port.err
}

// port is an open virtio-serial port. A read returns 0 bytes while the host does not
// have it open. That is not the end: the next bytes begin the next session.
type port struct {
	in, out *os.File // the same file, except in tests
	mu      sync.Mutex
	err     error // why the port cannot be used any more
}

func (p *port) dead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err != nil
}

func (p *port) fail(err error) error {
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.err = err
	}
	return err
}

// portSession is the port while the host has it open: it begins with the first byte and
// ends with a read of 0 bytes, or with Close.
type portSession struct {
	port  *port
	begun bool
	over  atomic.Bool
}

// Read implements io.Reader. Before the first byte it waits for the host, without limit
// and without polling.
func (c *portSession) Read(b []byte) (int, error) {
	if c.over.Load() {
		return 0, io.EOF
	}
	raw, err := c.port.in.SyscallConn()
	if err != nil {
		return 0, c.port.fail(err)
	}
	n, readErr := 0, error(nil)
	err = raw.Read(func(fd uintptr) bool {
		n, readErr = readPort(int(fd), b)
		return !errors.Is(readErr, unix.EAGAIN) && (n > 0 || readErr != nil || c.begun)
	})
	if err == nil {
		err = readErr
	}
	if err != nil {
		return 0, c.port.fail(err)
	}
	if n == 0 {
		c.over.Store(true)
		return 0, io.EOF
	}
	c.begun = true
	return n, nil
}

// readPort reads once, without waiting.
func readPort(fd int, b []byte) (int, error) {
	for {
		n, err := unix.Read(fd, b)
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

// Write implements io.Writer.
func (c *portSession) Write(b []byte) (int, error) {
	if c.over.Load() {
		return 0, io.ErrClosedPipe
	}
	n, err := c.port.out.Write(b)
	return n, c.port.fail(err)
}

// Close ends the session; the port stays open for the next one.
func (c *portSession) Close() error {
	c.over.Store(true)
	return nil
}

// SetReadDeadline bounds reads within a session; the wait for its first byte has no bound.
func (c *portSession) SetReadDeadline(t time.Time) error {
	if !c.begun {
		t = time.Time{}
	}
	return c.port.in.SetReadDeadline(t)
}

// SetWriteDeadline bounds writes, which block when the host has closed the port.
func (c *portSession) SetWriteDeadline(t time.Time) error {
	return c.port.out.SetWriteDeadline(t)
}

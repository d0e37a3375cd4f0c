// Package shell offers the debug shell on the console (manual: Debug Shell).
//
// The console shows a line that says how to open it; ENTER opens a login of its
// own session with the console as controlling terminal, so job control works.
// When it ends the line comes again. While it is open a marker file holds its
// process ID, and whoever wants to reboot waits with [Hold].
package shell

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/pidfd"
)

// Marker is where the process ID of an open shell stands.
const Marker = "/run/pantavisor/debug-shell"

// Spawner starts a process and tells how it ended. Process 1 reaps all processes
// of the device, so it starts them too.
type Spawner interface {
	Spawn(path string, argv []string, attr *syscall.ProcAttr) (pid int, done <-chan syscall.WaitStatus, err error)
}

// Console is a debug shell on one terminal.
type Console struct {
	// TTY is the terminal; see [Terminal].
	TTY string
	// Program is the shell, /bin/sh.
	Program string
	// Autologin opens the shell without waiting for ENTER, once
	// (PV_DEBUG_SHELL_AUTOLOGIN).
	Autologin bool
	// Marker is the marker file; its directory is made.
	Marker string
	// Spawner starts the shell.
	Spawner Spawner
}

// errNoShell says that the initrd holds no shell.
var errNoShell = errors.New("no debug shell in this initrd: build with PANTAVISOR_DEBUG=yes to add one")

// Terminal returns the terminal behind /dev/console: a shell needs the real one
// for job control. dev and sys are /dev and /sys.
func Terminal(dev, sys string) string {
	b, err := os.ReadFile(filepath.Join(sys, "class/tty/console/active"))
	active := strings.Fields(string(b))
	if err != nil || len(active) == 0 {
		return filepath.Join(dev, "console")
	}
	tty := active[len(active)-1] // /dev/console reads from the last one named
	if tty == "tty0" {           // stands for the virtual terminal in front
		if b, err := os.ReadFile(filepath.Join(sys, "class/tty/tty0/active")); err == nil && len(b) > 0 {
			tty = strings.TrimSpace(string(b))
		}
	}
	return filepath.Join(dev, filepath.Base(tty))
}

// Available reports whether there is a shell to offer; the error says how to get one.
func (c *Console) Available() error {
	if info, err := os.Stat(c.Program); err != nil || info.Mode()&0o111 == 0 {
		return fmt.Errorf("looking for %s: %w", c.Program, errNoShell)
	}
	return nil
}

// Run offers the shell until ctx ends.
func (c *Console) Run(ctx context.Context) error {
	if err := c.Available(); err != nil {
		return err
	}
	for open := c.Autologin; ctx.Err() == nil; open = false {
		if !open {
			if err := c.prompt(ctx); err != nil {
				return err
			}
		}
		if err := c.session(); err != nil {
			return err
		}
	}
	return ctx.Err()
}

const invitation = "\r\nPress ENTER for a debug shell.\r\n"

// maxEOF is how often the terminal may say end of file in a row: Ctrl-D does so
// once, a line without anything at its end for ever.
const maxEOF = 16

// prompt shows the invitation and waits for ENTER.
func (c *Console) prompt(ctx context.Context) error {
	tty, err := os.OpenFile(c.TTY, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("opening the console: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = tty.Close() })
	defer stop()
	defer tty.Close()
	if _, err := tty.WriteString(invitation); err != nil {
		return fmt.Errorf("writing to the console: %w", err)
	}
	buf := make([]byte, 256)
	for eofs := 0; eofs < maxEOF; {
		n, err := tty.Read(buf)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case bytes.ContainsAny(buf[:n], "\r\n"):
			return nil
		case errors.Is(err, io.EOF):
			eofs++
		case err != nil:
			return fmt.Errorf("reading the console: %w", err)
		}
	}
	return errors.New("reading the console: nobody is at its other end")
}

// session runs one shell to its end.
func (c *Console) session() error {
	tty, err := os.OpenFile(c.TTY, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return fmt.Errorf("opening the console: %w", err)
	}
	defer tty.Close()
	fd := tty.Fd()
	attr := &syscall.ProcAttr{
		Dir:   "/",
		Env:   []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/", "USER=root", "SHELL=" + c.Program, "TERM=" + term(c.TTY)},
		Files: []uintptr{fd, fd, fd},
		Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0},
	}
	pid, done, err := c.Spawner.Spawn(c.Program, []string{"-" + filepath.Base(c.Program), "-i"}, attr)
	if err != nil {
		return fmt.Errorf("starting the debug shell: %w", err)
	}
	if err := c.mark(pid); err != nil {
		_, _ = fmt.Fprintf(tty, "a reboot will not wait for this shell: %v\r\n", err)
	}
	<-done
	_ = os.Remove(c.Marker)
	return nil
}

func (c *Console) mark(pid int) error {
	if err := os.MkdirAll(filepath.Dir(c.Marker), 0o755); err != nil {
		return fmt.Errorf("marking the shell as open: %w", err)
	}
	return atomicfile.Write(c.Marker, []byte(strconv.Itoa(pid)+"\n"), 0o644)
}

// term is what the terminal understands: a serial line the least.
func term(tty string) string {
	name := filepath.Base(tty)
	if len(name) > 3 && strings.HasPrefix(name, "tty") && name[3] >= '0' && name[3] <= '9' {
		return "linux"
	}
	return "vt100"
}

// openShell returns the process ID of an open shell, 0 when there is none.
func openShell(marker string) int {
	b, err := os.ReadFile(marker)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 1 || unix.Kill(pid, 0) != nil {
		return 0
	}
	return pid
}

// Open reports whether somebody works in the debug shell with this marker file.
func Open(marker string) bool { return openShell(marker) != 0 }

// warning is how long before its end an open shell is told.
const warning = 10 * time.Second

// Hold waits for an open shell to be closed, for a reboot to go on. After the
// timeout (PV_DEBUG_SHELL_TIMEOUT) the shell is killed; a new timeout that comes
// over extend (DEFER_REBOOT) starts the wait anew. say gets the lines that the
// user should see. Without an open shell it returns at once.
func Hold(ctx context.Context, marker string, timeout time.Duration, extend <-chan time.Duration, say func(string)) {
	pid := openShell(marker)
	if pid == 0 {
		return
	}
	closed, err := ended(pid)
	if err != nil {
		return // it has just gone
	}
	say(fmt.Sprintf("reboot or power-off waits up to %v for the debug shell; leave it with exit or Ctrl-D", timeout))
	for left, warned := timeout, false; ; {
		step := left
		if !warned && left > warning {
			step = left - warning
		}
		select {
		case <-closed:
			return
		case <-ctx.Done():
			return
		case left = <-extend:
			warned = false
			say(fmt.Sprintf("reboot now waits up to %v for the debug shell", left))
		case <-time.After(step):
			if left -= step; left <= 0 {
				say("the debug shell was open for too long and is closed now")
				end(pid)
				return
			}
			warned = true
			say(fmt.Sprintf("the debug shell is closed in %v", left))
		}
	}
}

// end hangs up the shell's whole session and makes sure of the shell itself.
func end(pid int) {
	_ = unix.Kill(-pid, unix.SIGHUP)
	_ = unix.Kill(pid, unix.SIGKILL)
}

// ended returns a channel that closes when a process ends, whoever's child it is.
func ended(pid int) (<-chan struct{}, error) {
	fd, err := unix.PidfdOpen(pid, unix.O_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watching process %d: %w", pid, err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	conn, err := f.SyscallConn()
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("watching process %d: %w", pid, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer f.Close()
		_ = conn.Read(func(fd uintptr) bool { return pidfd.Ended(int(fd)) }) // the first call only asks to wait
	}()
	return done, nil
}

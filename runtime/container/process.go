package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Exit is how a container's init ended.
type Exit struct {
	Code   int         // exit code; -1 when a signal ended it
	Signal unix.Signal // 0 when it exited by itself
}

// String describes the end for messages: "exited with code 1", "killed by SIGKILL".
func (e Exit) String() string {
	if e.Signal == 0 {
		return "exited with code " + strconv.Itoa(e.Code)
	}
	if name := unix.SignalName(e.Signal); name != "" {
		return "killed by " + name
	}
	return "killed by signal " + strconv.Itoa(int(e.Signal))
}

// Process is a running container: its init and the resources that end with it.
type Process struct {
	Name string
	PID  int
	// Console is the master side of the container's console, nil without one. It
	// must be read, or programs that write to the console block.
	Console *os.File

	halt  unix.Signal
	start *starting
	ttys  []int // master sides of /dev/tty1 and so on, which must be held
	group *Group
	pidfd *os.File
	done  chan struct{}
	exit  Exit
	left  error // what could not be cleaned up
}

// hold registers the process's descriptor with Go's poller, so that waiting for a
// hundred containers takes no threads.
func (p *Process) hold(pidfd int) error {
	if pidfd < 0 {
		fd, err := unix.PidfdOpen(p.PID, 0)
		if err != nil {
			return fmt.Errorf("holding the container's init: %w", err)
		}
		pidfd = fd
	}
	if err := unix.SetNonblock(pidfd, true); err != nil {
		_ = unix.Close(pidfd)
		return fmt.Errorf("holding the container's init: %w", err)
	}
	p.pidfd = os.NewFile(uintptr(pidfd), "init of a container")
	return nil
}

// Done is closed when init has ended and its control group is gone.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit returns how init ended, and the error of cleaning up after it. It may be called
// only after Done is closed.
func (p *Process) Exit() (Exit, error) { return p.exit, p.left }

// watch waits until init has ended and cleans up.
func (p *Process) watch() {
	p.exit = p.reap()
	p.closeTtys()
	p.start.runStop()
	p.left = p.start.tearDown()
	close(p.done)
}

func (p *Process) closeTtys() {
	for _, t := range p.ttys {
		_ = unix.Close(t)
	}
	p.ttys = nil
}

// reap waits for init and returns how it ended.
func (p *Process) reap() Exit {
	var status unix.WaitStatus
	raw, err := p.pidfd.SyscallConn()
	if err == nil {
		err = raw.Read(func(uintptr) bool {
			pid, err := unix.Wait4(p.PID, &status, unix.WNOHANG, nil)
			return pid == p.PID || (err != nil && err != unix.EINTR)
		})
	}
	if err != nil {
		_, _ = unix.Wait4(p.PID, &status, 0, nil)
	}
	_ = p.pidfd.Close()
	if status.Signaled() {
		return Exit{Code: -1, Signal: status.Signal()}
	}
	return Exit{Code: status.ExitStatus()}
}

// abandon ends a process whose start failed.
func (p *Process) abandon() {
	p.Kill()
	p.reap()
	p.closeTtys()
	if p.Console != nil {
		_ = p.Console.Close()
	}
}

// Signal sends a signal to init.
func (p *Process) Signal(sig unix.Signal) error {
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return fmt.Errorf("signalling container %s: %w", p.Name, err)
	}
	var got error
	err = raw.Control(func(fd uintptr) { got = unix.PidfdSendSignal(int(fd), sig, nil, 0) })
	if err = errors.Join(err, got); err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("signalling container %s: %w", p.Name, err)
	}
	return nil
}

// Kill ends the container at once.
func (p *Process) Kill() {
	_ = p.Signal(unix.SIGKILL)
	p.group.kill()
}

// Stop asks init to end, and kills it when ctx ends first. It returns when the
// container is gone; killed reports whether it had to be killed.
func (p *Process) Stop(ctx context.Context) (killed bool) {
	asked := map[int]bool{}
	for pause := 10 * time.Millisecond; !p.ask(asked); pause = min(2*pause, time.Second) {
		// Init may have just started, before it has set up its signal handlers.
		select {
		case <-p.done:
			return false
		case <-ctx.Done():
			return p.end()
		case <-time.After(pause):
		}
	}
	select {
	case <-p.done:
		return false
	case <-ctx.Done():
		return p.end()
	}
}

func (p *Process) end() (killed bool) {
	p.Kill()
	<-p.done
	return true
}

// ask asks init to end, with the signal of the configuration or else one that init
// handles; it returns false when init handles none. Then it asks init's children, each
// once: the kernel drops signals that an init does not handle, but a shell that waits
// for its command ends with it.
func (p *Process) ask(asked map[int]bool) bool {
	sig := p.halt
	if sig == 0 {
		sig = chooseHalt(caughtSignals(p.PID))
	}
	if sig != 0 {
		_ = p.Signal(sig)
		return true
	}
	var children []int
	for _, pid := range p.group.processes() {
		if pid != p.PID && !asked[pid] {
			asked[pid] = true
			children = append(children, pid)
		}
	}
	p.group.signal(children, unix.SIGTERM)
	return false
}

// chooseHalt returns the signal that makes an init end: systemd uses one of its own and
// takes SIGTERM as a request to execute itself again; LXC's signal is SIGPWR.
func chooseHalt(comm string, caught uint64) unix.Signal {
	has := func(s unix.Signal) bool { return caught&(1<<(s-1)) != 0 }
	const systemdHalt = unix.Signal(rtMin + 3)
	switch {
	case comm == stageName: // execve is not done yet; the handlers are the runtime's
		return 0
	case comm == "systemd" && has(systemdHalt):
		return systemdHalt
	case has(unix.SIGTERM):
		return unix.SIGTERM
	case has(unix.SIGPWR):
		return unix.SIGPWR
	}
	return 0
}

// caughtSignals returns a process's name and the signals it handles, bit n-1 for
// signal n. Blocked signals count, too: the process may wait for them with a signalfd.
func caughtSignals(pid int) (comm string, caught uint64) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return "", 0
	}
	for line := range bytes.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(string(line)), ":")
		value = strings.TrimSpace(value)
		switch key {
		case "Name":
			comm = value
		case "SigCgt", "SigBlk":
			bits, _ := strconv.ParseUint(value, 16, 64)
			caught |= bits
		}
	}
	return comm, caught
}

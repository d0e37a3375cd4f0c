package shell

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// forker starts processes without a process 1.
type forker struct{}

func (forker) Spawn(path string, argv []string, attr *syscall.ProcAttr) (int, <-chan syscall.WaitStatus, error) {
	pid, err := syscall.ForkExec(path, argv, attr)
	if err != nil {
		return 0, nil, err
	}
	done := make(chan syscall.WaitStatus, 1)
	go func() {
		var ws syscall.WaitStatus
		_, _ = syscall.Wait4(pid, &ws, 0, nil)
		done <- ws
	}()
	return pid, done, nil
}

// terminal is a pseudo-terminal whose screen is remembered.
type terminal struct {
	*os.File
	name string
	mu   sync.Mutex
	seen bytes.Buffer
	more chan struct{}
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	f, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Skipf("needs pseudo-terminals: %v", err)
	}
	conn, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	err = conn.Control(func(fd uintptr) {
		_ = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
		n, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
	})
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{File: f, name: "/dev/pts/" + strconv.Itoa(n), more: make(chan struct{}, 1)}
	// An own handle keeps the terminal alive between prompt and shell.
	slave, err := os.OpenFile(term.name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close(); _ = slave.Close() })
	go term.watch()
	return term
}

func (x *terminal) watch() {
	buf := make([]byte, 4096)
	for {
		n, err := x.Read(buf)
		x.mu.Lock()
		x.seen.Write(buf[:n])
		x.mu.Unlock()
		select {
		case x.more <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

// expect waits until the text shows and forgets the screen up to it.
func (x *terminal) expect(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(60 * time.Second)
	for {
		x.mu.Lock()
		i := bytes.Index(x.seen.Bytes(), []byte(text))
		if i >= 0 {
			x.seen.Next(i + len(text))
		}
		screen := x.seen.String()
		x.mu.Unlock()
		if i >= 0 {
			return
		}
		select {
		case <-x.more:
		case <-deadline:
			t.Fatalf("%q does not show; screen: %q", text, screen)
		}
	}
}

func (x *terminal) enter(t *testing.T, s string) {
	t.Helper()
	if _, err := x.WriteString(s); err != nil {
		t.Fatal(err)
	}
}

func console(t *testing.T, tty string) *Console {
	t.Helper()
	return &Console{TTY: tty, Program: "/bin/sh", Marker: filepath.Join(t.TempDir(), "run", "shell"), Spawner: forker{}}
}

// start runs the console and returns what waits for its end.
func start(t *testing.T, c *Console) (cancel func(), done <-chan error) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	t.Cleanup(stop)
	return stop, ended
}

func TestShellHasJobControlAndComesAgain(t *testing.T) {
	tty := newTerminal(t)
	c := console(t, tty.name)
	cancel, done := start(t, c)
	tty.expect(t, "Press ENTER")
	if pid := openShell(c.Marker); pid != 0 {
		t.Errorf("marker names %d before the shell is open", pid)
	}
	tty.enter(t, "\n")
	tty.enter(t, "echo sum=$((20+3))\n")
	tty.expect(t, "sum=23")
	shell := marked(t, c) // whoever writes the marker has the shell's number only once it runs
	// Interrupting the job in front and getting the prompt back is job control.
	tty.enter(t, "sleep 1000\n")
	tty.expect(t, "sleep 1000")
	foreground(t, tty, shell, "sleep")
	tty.enter(t, "\x03")
	tty.enter(t, "echo jobs=$((40+2))\n")
	tty.expect(t, "jobs=42")
	tty.enter(t, "exit\n")
	tty.expect(t, "Press ENTER")
	if pid := openShell(c.Marker); pid != 0 {
		t.Errorf("marker still names %d", pid)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
}

// marked waits for the marker of an open shell and returns its process.
func marked(t *testing.T, c *Console) int {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if pid := openShell(c.Marker); pid != 0 {
			return pid
		}
	}
	t.Fatal("no marker while the shell is open")
	return 0
}

// foreground waits until a job of another process group than the shell's is in front and
// runs its program: before that it may not hear an interrupt.
func foreground(t *testing.T, tty *terminal, shell int, program string) {
	t.Helper()
	conn, err := tty.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		pgrp := 0
		if err := conn.Control(func(fd uintptr) { pgrp, _ = unix.IoctlGetInt(int(fd), unix.TIOCGPGRP) }); err != nil {
			t.Fatal(err)
		}
		if comm, _ := os.ReadFile("/proc/" + strconv.Itoa(pgrp) + "/comm"); pgrp != shell && string(comm) == program+"\n" {
			return
		}
	}
	t.Fatal("no job came to the foreground")
}

func TestAutologinOpensOnce(t *testing.T) {
	tty := newTerminal(t)
	c := console(t, tty.name)
	c.Autologin = true
	start(t, c)
	tty.enter(t, "echo auto=$((1+1))\nexit\n")
	tty.expect(t, "auto=2")
	tty.expect(t, "Press ENTER")
}

func TestNoShell(t *testing.T) {
	c := console(t, "/dev/null")
	c.Program = "/bin/no-such-shell"
	err := c.Run(t.Context())
	if !errors.Is(err, errNoShell) || !strings.Contains(err.Error(), "PANTAVISOR_DEBUG") {
		t.Errorf("%v, want errNoShell with what mends it", err)
	}
}

func TestDeadConsoleEnds(t *testing.T) {
	if err := console(t, "/dev/null").Run(t.Context()); err == nil {
		t.Error("a console without input was read for ever")
	}
	if err := console(t, "/dev/nonexistent").Run(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, want that it is missing", err)
	}
}

func TestTerminal(t *testing.T) {
	tests := []struct {
		name, console, tty0, want string
	}{
		{"serial last", "tty0 ttyS0\n", "tty1\n", "/dev/ttyS0"},
		{"screen last", "ttyS0 tty0\n", "tty1\n", "/dev/tty1"},
		{"screen without number", "tty0\n", "", "/dev/tty0"},
		{"none", "", "", "/dev/console"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			sys := t.TempDir()
			for n, content := range map[string]string{"console": tc.console, "tty0": tc.tty0} {
				dir := filepath.Join(sys, "class/tty", n)
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, "active"), []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got := Terminal("/dev", sys); got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
		})
	}
	if got := Terminal("/dev", t.TempDir()); got != "/dev/console" {
		t.Errorf("without sysfs: %s", got)
	}
}

func TestTerm(t *testing.T) {
	for tty, want := range map[string]string{"/dev/tty1": "linux", "/dev/ttyS0": "vt100", "/dev/ttyAMA0": "vt100", "/dev/hvc0": "vt100"} {
		if got := term(tty); got != want {
			t.Errorf("%s: %s, want %s", tty, got, want)
		}
	}
}

// held starts a process that stands for an open shell.
func held(t *testing.T) (marker string, cmd *exec.Cmd) {
	t.Helper()
	cmd = exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	marker = filepath.Join(t.TempDir(), "marker")
	if err := os.WriteFile(marker, []byte(strconv.Itoa(cmd.Process.Pid)+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return marker, cmd
}

func TestHoldKillsAfterTheTimeout(t *testing.T) {
	marker, cmd := held(t)
	var said []string
	Hold(t.Context(), marker, time.Millisecond, nil, func(s string) { said = append(said, s) })
	if err := cmd.Wait(); err == nil {
		t.Error("the shell was not killed")
	}
	if len(said) != 2 {
		t.Errorf("said %q, want the wait and the end", said)
	}
}

func TestHoldEndsWithTheShell(t *testing.T) {
	marker, cmd := held(t)
	go func() { _, _ = cmd.Process.Wait() }()
	Hold(t.Context(), marker, time.Hour, nil, func(string) { _ = cmd.Process.Kill() })
}

func TestHoldIsExtended(t *testing.T) {
	marker, cmd := held(t)
	extend := make(chan time.Duration, 1)
	var said []string
	Hold(t.Context(), marker, time.Hour, extend, func(s string) {
		said = append(said, s)
		if len(said) == 1 {
			extend <- time.Millisecond
		}
	})
	if err := cmd.Wait(); err == nil || len(said) != 3 {
		t.Errorf("%v, said %q", err, said)
	}
}

func TestHoldWithoutShell(t *testing.T) {
	dir := t.TempDir()
	say := func(s string) { t.Errorf("said %q", s) }
	Hold(t.Context(), filepath.Join(dir, "none"), time.Hour, nil, say)
	for _, stale := range []string{"", "x", "1", "-5", "999999999"} {
		marker := filepath.Join(dir, "stale")
		if err := os.WriteFile(marker, []byte(stale), 0o644); err != nil {
			t.Fatal(err)
		}
		Hold(t.Context(), marker, time.Hour, nil, say)
	}
}

package pventer

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// onTerminal starts pventer on a terminal of its own and returns that terminal's other
// end.
func onTerminal(t *testing.T, words ...string) (*exec.Cmd, *terminal, *bufio.Reader) {
	t.Helper()
	user := &terminal{}
	if err := user.open(); err != nil {
		t.Skipf("this machine gives no terminal: %v", err)
	}
	size := &unix.Winsize{Row: 33, Col: 77}
	if err := control(user.master, func(fd int) error { return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, size) }); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], words...)
	cmd.Env = append(os.Environ(), "BE_PVENTER=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = user.slave, user.slave, user.slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := user.master.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = user.master.Close()
		_ = user.slave.Close()
	})
	return cmd, user, bufio.NewReader(user.master)
}

func line(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	text, err := r.ReadString('\n')
	if err != nil {
		t.Fatalf("%q, %v", text, err)
	}
	return strings.TrimSpace(text)
}

// TestTerminalOfItsOwn wants a command to have a terminal that is not the user's, and
// all that a terminal does: its size, its keys, its signals, and its state afterwards.
func TestTerminalOfItsOwn(t *testing.T) {
	name := unshared(t)
	cmd, user, r := onTerminal(t, "-c", name, "sh", "-c", "readlink /proc/self/fd/0; readlink /proc/self/fd/2; stty size; read a; echo got $a; echo ready; sleep 600")
	before, err := unix.IoctlGetTermios(int(user.slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range []string{"0", "2"} {
		if got := line(t, r); got == user.slave.Name() || !strings.HasPrefix(got, "/dev/pts/") {
			t.Errorf("descriptor %s is %s, the user's terminal %s", fd, got, user.slave.Name())
		}
	}
	if got := line(t, r); got != "33 77" {
		t.Errorf("the size is %s", got)
	}
	if _, err := user.master.WriteString("word\r"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"word", "got word", "ready"} { // the first is the echo
		if got := line(t, r); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	// A shell that is just about to start a program may take a key without effect.
	ended := make(chan struct{})
	go func() {
		for {
			_, _ = user.master.WriteString("\x03")
			select {
			case <-ended:
				return
			case <-time.After(200 * time.Millisecond):
			}
		}
	}()
	_ = cmd.Wait()
	close(ended)
	if code := cmd.ProcessState.ExitCode(); code != 128+int(unix.SIGINT) {
		t.Errorf("Ctrl-C: exit code %d", code)
	}
	after, err := unix.IoctlGetTermios(int(user.slave.Fd()), unix.TCGETS)
	if err != nil || after.Lflag&unix.ECHO == 0 || after.Lflag&unix.ICANON == 0 {
		t.Errorf("the terminal is left as %+v, %v; before %+v", after, err, before)
	}
}

// TestOutputBehindTheEnd waits for what is shown last, and not for what the command has
// left running.
func TestOutputBehindTheEnd(t *testing.T) {
	name := unshared(t)
	cmd, _, r := onTerminal(t, "-c", name, "sh", "-c", "sleep 600 & seq 3000; exit 4")
	last := ""
	for last != "3000" {
		last = line(t, r)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 4 {
		t.Errorf("exit code %d", code)
	}
}

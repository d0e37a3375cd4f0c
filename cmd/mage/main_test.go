package main

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// TestMain makes the test binary mage itself when a test asks for it.
func TestMain(m *testing.M) {
	if os.Getenv("BE_MAGE") == "yes" {
		main()
	}
	os.Exit(m.Run())
}

func TestSignalsCancel(t *testing.T) {
	for _, c := range []struct {
		name   string
		signal syscall.Signal
		group  bool
	}{
		{"terminate one", syscall.SIGTERM, false},
		{"terminate all", syscall.SIGTERM, true},
		{"hang up all", syscall.SIGHUP, true},
		{"interrupt all", syscall.SIGINT, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-d", "testdata/wait", "wait")
			cmd.Env = append(os.Environ(), "BE_MAGE=yes")
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			cmd.Stderr = t.Output()
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
			lines := bufio.NewScanner(out)
			if !lines.Scan() || lines.Text() != "waiting" {
				t.Fatalf("got %q, %v", lines.Text(), lines.Err())
			}
			to := cmd.Process.Pid
			if c.group {
				to = -to
			}
			if err := syscall.Kill(to, c.signal); err != nil {
				t.Fatal(err)
			}
			var rest []string
			for lines.Scan() {
				rest = append(rest, lines.Text())
			}
			var exit *exec.ExitError
			if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != int(fault.Cancelled) || strings.Join(rest, " ") != "cleaned up" {
				t.Errorf("%v, said %q", err, rest)
			}
		})
	}
}

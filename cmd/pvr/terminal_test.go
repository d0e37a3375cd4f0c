package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestVisible(t *testing.T) {
	for text, want := range map[string]string{
		"plain\ttext\r\n":             "plain\ttext\r\n",
		"ünïcode-日本\n":                "ünïcode-日本\n",
		"a\x1b[31mred\x07\x7f":        `a\x1b[31mred\x07\x7f`,
		"c1 \u009b31m":                `c1 \x9b31m`,
		"no UTF-8 \xff\xfe, kept raw": "no UTF-8 \xff\xfe, kept raw",
	} {
		var b bytes.Buffer
		if n, err := (visible{&b}).Write([]byte(text)); n != len(text) || err != nil || b.String() != want {
			t.Errorf("%q: %d, %v, %q, want %q", text, n, err, b.String(), want)
		}
	}
}

// pty opens a terminal of this test's own: its two ends.
func pty(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err = errors.Join(err, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)); err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals: %v", err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// A name with control characters does not reach a terminal raw, and a pipe gets it
// as it is.
func TestHostileNameOnTerminal(t *testing.T) {
	s := newScene(t)
	s.must("init")
	s.write("evil\x1b]0;title\x07", "text")
	master, slave := pty(t)
	done := make(chan string)
	go func() {
		text, _ := io.ReadAll(master) // ends with an error when the other end is closed
		done <- string(text)
	}()
	if rc := Run(t.Context(), []string{"pvr", "status"}, strings.NewReader(""), slave, slave); rc != 0 {
		t.Errorf("exit code %d", rc)
	}
	slave.Close()
	if got := <-done; got != "? evil\\x1b]0;title\\x07\r\n" {
		t.Errorf("terminal: %q", got)
	}
	if got := s.must("status").stdout; got != "? evil\x1b]0;title\x07\n" {
		t.Errorf("pipe: %q", got)
	}
}

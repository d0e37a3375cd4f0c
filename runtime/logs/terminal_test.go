package logs

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// rawTerminal makes a terminal without output processing and returns both of its sides.
func rawTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = slave.Close() })
	mode, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	mode.Oflag &^= unix.OPOST
	if err := unix.IoctlSetTermios(int(slave.Fd()), unix.TCSETS, mode); err != nil {
		t.Fatal(err)
	}
	return master, slave
}

// TestLinesOnARawTerminal prints while a program has the terminal in raw mode, at once and
// from the queue: each line begins at the left edge.
func TestLinesOnARawTerminal(t *testing.T) {
	t.Parallel()
	for _, output := range []Output{Stdout, StdoutDirect} {
		master, slave := rawTerminal(t)
		s := New(Options{Outputs: output, Level: Info, Stdout: slave})
		s.Log(Runtime, "engine", Info, "one")
		s.Log(Runtime, "engine", Info, "two")
		s.Close()
		in := bufio.NewReader(master)
		for range 2 {
			if line, err := in.ReadBytes('\n'); err != nil || !bytes.HasSuffix(line, []byte("\r\n")) {
				t.Errorf("%v: %q, %v", output, line, err)
			}
		}
	}
}

package installer

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// backlog is how many texts wait for a slow console before it loses some.
const backlog = 256

// screen writes the same to all consoles. One that does not take it, as a serial line with
// flow control and nobody there, holds up neither the others nor the installation.
type screen struct {
	queues  []chan []byte
	writers sync.WaitGroup
	width   int // of the line that update wrote
}

// add adds a console.
func (s *screen) add(w io.Writer) {
	queue := make(chan []byte, backlog)
	s.queues = append(s.queues, queue)
	s.writers.Go(func() {
		for text := range queue {
			if _, err := w.Write(text); err != nil {
				return // a console without a device behind it
			}
		}
	})
}

// finish waits until the consoles have everything, but not longer than the limit. Nothing
// can be written afterwards.
func (s *screen) finish(limit time.Duration) {
	for _, q := range s.queues {
		close(q)
	}
	written := make(chan struct{})
	go func() { s.writers.Wait(); close(written) }()
	select {
	case <-written:
	case <-time.After(limit):
	}
}

func (s *screen) print(format string, args ...any) {
	s.width = 0
	s.send(fmt.Sprintf(format, args...))
}

// update writes a line in place of what the last call of update wrote.
func (s *screen) update(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.send("\r" + text + strings.Repeat(" ", max(0, s.width-len(text))))
	s.width = len(text)
}

func (s *screen) send(text string) {
	b := bytes.ReplaceAll([]byte(text), []byte("\n"), []byte("\r\n"))
	for _, q := range s.queues {
		select {
		case q <- b:
		default:
		}
	}
}

// consoleList is the kernel's list of the consoles that are in use.
const consoleList = "/sys/class/tty/console/active"

// openConsoles opens every console of the kernel and returns a screen on them, and their
// keys. A console that cannot be opened or read is left out.
func openConsoles() (*screen, <-chan byte) {
	s, keys := &screen{}, make(chan byte)
	list, _ := os.ReadFile(consoleList) // without it there is /dev/console
	names := strings.Fields(string(list))
	if len(names) == 0 {
		names = []string{"console"}
	}
	for _, name := range names {
		f, err := os.OpenFile("/dev/"+name, os.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			continue
		}
		single(int(f.Fd()))
		s.add(f)
		go read(f, keys)
	}
	return s, keys
}

// single sets a terminal to give each key as it is pressed, without showing it.
func single(fd int) {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return // not a terminal: it gives lines
	}
	t.Lflag &^= unix.ICANON | unix.ECHO | unix.ISIG
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	_ = unix.IoctlSetTermios(fd, unix.TCSETS, t) // then it gives lines
}

func read(f *os.File, keys chan<- byte) {
	b := make([]byte, 1)
	for {
		n, err := f.Read(b)
		if err != nil || n == 0 {
			return
		}
		keys <- b[0]
	}
}

package emulator

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// screen is a pseudo-terminal: what a user types goes in, what is shown comes out.
type screen struct {
	master, slave *os.File
	mu            sync.Mutex
	shown         bytes.Buffer
}

func newScreen(t *testing.T) *screen {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := &screen{master: master, slave: slave}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(s, master)
	}()
	t.Cleanup(func() { _ = slave.Close(); <-ended; _ = master.Close() })
	return s
}

// Write implements io.Writer.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shown.Write(p)
}

func (s *screen) await(ctx context.Context, t *testing.T, text string) {
	t.Helper()
	for {
		s.mu.Lock()
		found := bytes.Contains(s.shown.Bytes(), []byte(text))
		s.mu.Unlock()
		if found {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the terminal does not show %q", text)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (s *screen) mode(t *testing.T) unix.Termios {
	t.Helper()
	mode, err := unix.IoctlGetTermios(int(s.slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *mode
}

// TestTerminalIsLeftAsItWas ends a run on a terminal in each way while a device does not
// hear its power button. The terminal is as before, and no directory is left.
func TestTerminalIsLeftAsItWas(t *testing.T) {
	e := pc(t, "")
	for name, c := range map[string]struct {
		leave func(s *screen, cancel func())
		want  fault.Kind
	}{
		"power cut":                 {func(s *screen, _ func()) { _, _ = s.master.WriteString("\x1dx") }, 0},
		"power cut while it waits":  {func(s *screen, _ func()) { _, _ = s.master.WriteString("\x1dq\x1dx") }, 0},
		"cancelled":                 {func(_ *screen, cancel func()) { cancel() }, fault.Cancelled},
		"cancelled while it waits":  {func(s *screen, cancel func()) { _, _ = s.master.WriteString("\x1dq"); cancel() }, fault.Cancelled},
		"powered off by the device": {func(s *screen, _ func()) { _, _ = s.master.WriteString("p") }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s, tmp := newScreen(t), t.TempDir()
			t.Setenv("TMPDIR", tmp)
			before := s.mode(t)
			ctx, cancel := context.WithCancel(deadline(t, time.Minute))
			ended := make(chan error, 1)
			go func() {
				ended <- Run(ctx, Options{Target: "counter", Emulator: e, Image: countingDisk(t), Accelerator: "tcg",
					Stdin: s.slave, Stdout: s.slave, Stderr: io.Discard, PowerOff: time.Hour})
			}()
			s.await(ctx, t, "boot 1")
			if during := s.mode(t); during.Lflag&unix.ICANON != 0 {
				t.Error("the terminal is not in raw mode")
			}
			c.leave(s, cancel)
			err := <-ended
			if (err == nil) != (c.want == 0) || err != nil && fault.Of(err) != c.want {
				t.Errorf("%v", err)
			}
			if d := cmp.Diff(before, s.mode(t)); d != "" {
				t.Errorf("the terminal's mode (-before +after):\n%s", d)
			}
			if left, _ := filepath.Glob(tmp + "/*"); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

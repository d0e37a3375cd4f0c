package ctrl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/serialconn"
	"github.com/pantavisor/pantavisor/runtime/uevent"
)

// serialWord is the kernel argument that names the serial port on which an emulator asks the
// control API, for example pv_hostport=ttyUSB0.
const serialWord = "pv_hostport="

// SerialPort returns the serial port for [Server.ServeSerial] that a kernel command line
// names, "" when there is none.
func SerialPort(cmdline string) string {
	for _, word := range strings.Fields(cmdline) {
		if tty, ok := strings.CutPrefix(word, serialWord); ok && isTTY(tty) {
			return tty
		}
	}
	return ""
}

// isTTY reports whether a name is that of a port: "tty" and up to 16 letters and digits.
func isTTY(name string) bool {
	port, ok := strings.CutPrefix(name, "tty")
	return ok && 0 < len(port) && len(port) <= 16 && strings.IndexFunc(port, func(r rune) bool {
		return (r < '0' || '9' < r) && (r < 'A' || 'Z' < r) && (r < 'a' || 'z' < r)
	}) < 0
}

// ServeSerial answers on a serial port until ctx ends, in the frames of package serialconn. It
// waits for a port that is not there yet. Whoever has the other end has the rights of the
// runtime, so nothing but the kernel command line may name the port.
func (s *Server) ServeSerial(ctx context.Context, tty string) error {
	events, err := uevent.Listen()
	if err == nil {
		defer events.Close()
		stop := context.AfterFunc(ctx, func() { _ = events.Close() })
		defer stop()
	}
	for ctx.Err() == nil {
		err := s.serveTTY(ctx, filepath.Join("/dev", tty))
		if ctx.Err() != nil {
			break
		}
		if errors.Is(err, fs.ErrNotExist) && events != nil {
			if waitFor(events, "tty") != nil {
				break
			}
			continue
		}
		s.o.Log.Infof("control port %s: %v", tty, err)
		if !pause(ctx, time.Second) {
			break
		}
	}
	return nil
}

func (s *Server) serveTTY(ctx context.Context, device string) error {
	f, err := os.OpenFile(device, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("opening the control port: %w", err)
	}
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { _ = f.Close() })
	defer stop()
	if err := makeRaw(f); err != nil {
		return err
	}
	return serialconn.Serve(ctx, f, func(ctx context.Context, c *serialconn.Conn) { s.ServeConn(ctx, c, portCaller) })
}

// makeRaw has the line carry bytes as they are, at 115200 baud, without regard to modem lines.
func makeRaw(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		t, err := unix.IoctlGetTermios(int(fd), unix.TCGETS)
		if err != nil {
			failed = err
			return
		}
		t.Iflag, t.Oflag, t.Lflag = unix.IGNBRK, 0, 0
		t.Cflag = unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B115200
		t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
		failed = unix.IoctlSetTermios(int(fd), unix.TCSETS, t)
	})
	if err = errors.Join(err, failed); err != nil {
		return fmt.Errorf("setting up the control port: %w", err)
	}
	return nil
}

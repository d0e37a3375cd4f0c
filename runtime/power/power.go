// Package power watches for presses of the power button: KEY_POWER of every input
// device that has it, including devices added later (kernel documentation, "Linux
// Input drivers", event interface).
package power

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Constants of linux/input-event-codes.h.
const (
	evKey    = 1
	keyPower = 116
	keyMax   = 0x2ff
)

// Directory is the directory of the event devices.
const Directory = "/dev/input"

// Watch calls pressed for every press of a power button until ctx ends. It calls found
// with the device of each button when it has started to read it. It returns early only
// when the directory cannot be watched.
func Watch(ctx context.Context, directory string, found func(device string), pressed func()) error {
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return fmt.Errorf("watching for power buttons: %w", err)
	}
	w, err := newDirectory(directory)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = w.Close() })
	defer stop()
	defer w.Close()
	b := &buttons{found: found, pressed: pressed, open: map[string]*os.File{}}
	defer b.close()
	for {
		entries, _ := os.ReadDir(directory) // gone with its last device
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), "event") {
				b.add(filepath.Join(directory, e.Name()))
			}
		}
		if err := w.next(); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return err
		}
	}
}

// directoryWatch waits for new files in a directory.
type directoryWatch struct{ *os.File }

func newDirectory(path string) (directoryWatch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return directoryWatch{}, fmt.Errorf("watching for power buttons: %w", err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	// A device node is made first and becomes readable a moment later.
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_CREATE|unix.IN_ATTRIB|unix.IN_MOVED_TO); err != nil {
		_ = f.Close()
		return directoryWatch{}, fmt.Errorf("watching %s for power buttons: %w", path, err)
	}
	return directoryWatch{f}, nil
}

// next waits for any change.
func (w directoryWatch) next() error {
	if _, err := w.Read(make([]byte, 4096)); err != nil {
		return fmt.Errorf("watching for power buttons: %w", err)
	}
	return nil
}

// buttons are the devices that are being read.
type buttons struct {
	found   func(device string)
	pressed func()
	mu      sync.Mutex
	open    map[string]*os.File
}

// add reads a device in the background if it has a power button.
func (b *buttons) add(path string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, known := b.open[path]; known {
		return
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return // not there yet, or without a driver
	}
	if !hasPower(f) {
		_ = f.Close()
		return
	}
	b.open[path] = f
	b.found(path)
	go b.read(path, f)
}

func (b *buttons) read(path string, f *os.File) {
	defer func() {
		_ = f.Close()
		b.mu.Lock()
		delete(b.open, path)
		b.mu.Unlock()
	}()
	readEvents(f, b.pressed)
}

func (b *buttons) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range b.open {
		_ = f.Close()
	}
}

// hasPower asks a device which keys it has (EVIOCGBIT).
func hasPower(f *os.File) bool {
	bits := make([]byte, keyMax/8+1)
	conn, err := f.SyscallConn()
	if err != nil {
		return false
	}
	var errno unix.Errno
	err = conn.Control(func(fd uintptr) {
		_, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, uintptr(keyBits(len(bits))), uintptr(unsafe.Pointer(&bits[0])))
	})
	return err == nil && errno == 0 && bits[keyPower/8]&(1<<(keyPower%8)) != 0
}

// eventSize is sizeof(struct input_event): two longs of time, type, code, value.
const eventSize = 2*unsafe.Sizeof(uintptr(0)) + 8

// readEvents calls pressed for every press of the power key until the device is removed.
func readEvents(r io.Reader, pressed func()) {
	buf := make([]byte, 32*eventSize)
	for {
		n, err := r.Read(buf)
		for b := buf[:n]; len(b) >= int(eventSize); b = b[eventSize:] {
			e := b[eventSize-8:]
			typ, code, value := binary.NativeEndian.Uint16(e), binary.NativeEndian.Uint16(e[2:]), binary.NativeEndian.Uint32(e[4:])
			if typ == evKey && code == keyPower && value == 1 {
				pressed()
			}
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

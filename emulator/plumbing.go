package emulator

import (
	"fmt"
	"math/bits"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// socketPair returns our end as a connection and QEMU's end as a file to inherit.
func socketPair(name string) (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("making a socket for the %s: %w", name, err)
	}
	room(fds[1])
	ours, theirs := os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name)
	conn, err := net.FileConn(ours)
	_ = ours.Close()
	if err != nil {
		_ = theirs.Close()
		return nil, nil, fmt.Errorf("making a socket for the %s: %w", name, err)
	}
	return conn, theirs, nil
}

// room has a socket take more of what nobody has read yet. The kernel counts a write of 16 bytes, which
// is what a guest's serial port gives at a time, as 768, so that the usual room ends at 4 KiB of text. A
// guest's kernel waits for 10 ms for a port that is not ready (Linux: 8250_port.c, wait_for_lsr) and then
// writes over what is there: on a busy machine lines of the console had holes.
func room(fd int) {
	const size = 16 << 20
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, size) != nil { // for root
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, size) // as much as net.core.wmem_max allows
	}
}

// starterThread is locked to its thread for the life of the process.
func starterThread() {
	runtime.LockOSThread()
	for f := range starter.work {
		f()
	}
}

// growToPowerOfTwo makes a file as large as an SD card can be: its size is a power of two.
func growToPowerOfTwo(path string) error {
	st, err := os.Stat(path)
	if err != nil || st.Size() == 0 {
		return err
	}
	return os.Truncate(path, 1<<bits.Len64(uint64(st.Size()-1)))
}

// tailWriter keeps the end of what is written to it.
type tailWriter struct {
	mu  sync.Mutex
	buf []byte
}

const maxTail = 8 << 10

func (t *tailWriter) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - maxTail; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

func (t *tailWriter) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.buf))
}

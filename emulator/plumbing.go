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
	ours, theirs := os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name)
	conn, err := net.FileConn(ours)
	_ = ours.Close()
	if err != nil {
		_ = theirs.Close()
		return nil, nil, fmt.Errorf("making a socket for the %s: %w", name, err)
	}
	return conn, theirs, nil
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

package logs

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/peer"
)

// Syslog is the /dev/log of one container: a datagram socket, which syslog(3) of every C
// library tries first, and musl only. A sender has often ended before it could be
// identified, so each container has its own socket. The kernel queues the messages and
// blocks senders that are faster than the server.
type Syslog struct {
	s        *Server
	platform string
	file     *os.File
	raw      syscall.RawConn
	ending   atomic.Bool
	done     chan struct{}
	once     sync.Once
}

// lastDatagrams is how many waiting messages Close still logs.
const lastDatagrams = 1024

// ServeSyslog logs the messages of a platform from a socket at path, until
// [Syslog.Close].
func (s *Server) ServeSyslog(path, platform string) (*Syslog, error) {
	file, err := peer.ListenPacket(path, socketMode)
	if err != nil {
		return nil, fmt.Errorf("serving /dev/log of %s: %w", platform, err)
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("serving /dev/log of %s: %w", platform, err), file.Close())
	}
	l := &Syslog{s: s, platform: platform, file: file, raw: raw, done: make(chan struct{})}
	go func() {
		defer close(l.done)
		// False waits for more.
		_ = raw.Read(func(fd uintptr) bool {
			for !l.ending.Load() && l.take(int(fd)) {
			}
			return l.ending.Load()
		})
	}()
	return l, nil
}

// take logs one waiting message; it returns false when there is none.
func (l *Syslog) take(fd int) bool {
	piece := pieces.Get().(*[followPiece]byte)
	defer pieces.Put(piece)
	n, err := unix.Read(fd, piece[:])
	if err != nil {
		return err == unix.EINTR
	}
	m := parseText(string(piece[:n]))
	l.s.put(l.platform, m.Source, m.Level, fromMessage, []byte(m.Text))
	return true
}

// Close logs waiting messages and removes the socket. It may be called more than once.
func (l *Syslog) Close() {
	l.once.Do(func() {
		_ = os.Remove(l.file.Name())
		l.ending.Store(true)
		_ = l.file.SetReadDeadline(time.Now())
		<-l.done // one reader at a time, to keep the order
		_ = l.raw.Control(func(fd uintptr) {
			for n := 0; n < lastDatagrams && l.take(int(fd)); n++ {
			}
		})
		_ = l.file.Close()
	})
}

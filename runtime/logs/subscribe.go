package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/peer"
)

// Bounds of subscriptions.
const (
	maxSubscriptions = 32                     // of one platform
	pieceSize        = 8 << 10                // bytes read at once
	quietTime        = 200 * time.Millisecond // without more data an unfinished line is written
	receiveTime      = 10 * time.Second       // for a peer's request
)

// The request on pv-fd-log, four parts of fixed size (manual: Pantavisor Log Sockets).
const (
	nameSize    = 50
	requestSize = nameSize + nameSize + 4 + 4
	actionAdd   = 1
)

type subscription struct{ platform, source string }

// subscriptions are the descriptors that are read. The zero value is ready.
type subscriptions struct {
	mu     sync.Mutex
	open   map[subscription]*os.File
	closed bool
	reads  sync.WaitGroup
}

// Subscribe logs what it reads from f, byte for byte, until f ends, the peer unsubscribes
// or another file replaces f. The server closes f.
func (s *Server) Subscribe(f *os.File, platform, source string, level Level) error {
	key := subscription{platform, source}
	old, err := s.subs.add(key, f)
	if err != nil {
		_ = f.Close()
		return fmt.Errorf("subscribing to %s of %s: %w", source, platform, err)
	}
	if old != nil {
		_ = old.Close()
	}
	s.subs.reads.Go(func() {
		s.readStream(f, platform, source, level)
		s.subs.remove(key, f)
		_ = f.Close()
	})
	return nil
}

// unsubscribe ends a subscription, if it exists.
func (s *Server) unsubscribe(platform, source string) {
	if f := s.subs.remove(subscription{platform, source}, nil); f != nil {
		_ = f.Close()
	}
}

func (m *subscriptions) add(key subscription, f *os.File) (old *os.File, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, os.ErrClosed
	}
	n := 0
	for k := range m.open {
		if k.platform == key.platform && k.source != key.source {
			n++
		}
	}
	if n >= maxSubscriptions {
		return nil, fmt.Errorf("already %d subscriptions", n)
	}
	if m.open == nil {
		m.open = map[subscription]*os.File{}
	}
	old = m.open[key]
	m.open[key] = f
	return old, nil
}

// remove removes key, unless f is not nil and another file has replaced it.
func (m *subscriptions) remove(key subscription, f *os.File) *os.File {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.open[key]
	if f != nil && now != f {
		return nil
	}
	delete(m.open, key)
	return now
}

func (m *subscriptions) closeAll() {
	m.mu.Lock()
	m.closed = true
	for _, f := range m.open {
		_ = f.Close()
	}
	m.mu.Unlock()
	m.reads.Wait()
}

// readStream logs whole lines; an unfinished line waits up to quietTime for its end. It
// has no buffer while there is no data: most containers are silent most of the time.
func (s *Server) readStream(f *os.File, platform, source string, level Level) {
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	l := stream{put: func(text []byte) { s.put(platform, source, level, fromStream, text) }}
	for {
		_ = f.SetReadDeadline(l.deadline())
		var end error
		err := raw.Read(func(fd uintptr) bool {
			end = l.read(int(fd))
			return !errors.Is(end, unix.EAGAIN) // false waits for more
		})
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			l.flush()
		case err != nil || end != nil:
			l.flush()
			return
		}
	}
}

// stream splits what is read into lines.
type stream struct {
	put   func([]byte)
	begun []byte // an unfinished line
}

// deadline returns when the unfinished line is to be written; zero without one.
func (l *stream) deadline() time.Time {
	if l.begun == nil {
		return time.Time{}
	}
	return time.Now().Add(quietTime)
}

// read reads a piece. At the end it returns an error.
func (l *stream) read(fd int) error {
	piece := pieces.Get().(*[followPiece]byte)
	defer pieces.Put(piece)
	n, err := unix.Read(fd, piece[:pieceSize])
	switch {
	case errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return err
	case n == 0:
		return io.EOF
	}
	l.add(piece[:n])
	return nil
}

func (l *stream) add(text []byte) {
	if l.begun != nil {
		text = append(l.begun, text...)
	}
	cut := bytes.LastIndexByte(text, '\n') + 1
	if cut == 0 && len(text) >= pieceSize {
		cut = len(text)
	}
	if cut > 0 {
		l.put(text[:cut])
	}
	l.begun = append([]byte(nil), text[cut:]...)
}

func (l *stream) flush() {
	if l.begun != nil {
		l.put(l.begun)
	}
	l.begun = nil
}

// ListenDescriptors makes the socket pv-fd-log at path; serve takes descriptors on it
// until its context ends. A container may subscribe only for itself, the runtime for
// any platform.
func (s *Server) ListenDescriptors(path string) (serve func(context.Context) error, err error) {
	return s.listen(path, func(conn *peer.Conn, platform string) {
		if err := s.receive(conn, platform); err != nil {
			s.Log(Runtime, ownSource, Debug, fmt.Sprintf("descriptor of %s: %v", platform, err))
		}
	})
}

// fdRequest is one request on pv-fd-log.
type fdRequest struct {
	platform, source string
	level            Level
	action           int32
	file             *os.File // nil without a descriptor
}

func (s *Server) receive(conn *peer.Conn, platform string) error {
	_ = conn.SetReadDeadline(time.Now().Add(receiveTime))
	req, err := receiveRequest(conn)
	if err != nil {
		return err
	}
	if platform != Runtime {
		req.platform = platform
	}
	switch {
	case req.action != actionAdd:
		if req.file != nil {
			_ = req.file.Close()
		}
		s.unsubscribe(req.platform, req.source)
		return nil
	case req.file == nil:
		return errors.New("subscribing: the request has no descriptor")
	case !isStream(req.file):
		_ = req.file.Close()
		return errors.New("subscribing: the descriptor is not a pipe, socket or terminal")
	}
	return s.Subscribe(req.file, req.platform, req.source, req.level)
}

// isStream reports whether a descriptor is a pipe, a socket or a terminal, whose data
// another process must write. /dev/zero and sparse files provide data at no cost to the
// subscriber, and regular files cannot be polled.
func isStream(f *os.File) (is bool) {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	err = raw.Control(func(fd uintptr) {
		var st unix.Stat_t
		if unix.Fstat(int(fd), &st) != nil {
			return
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFIFO, unix.S_IFSOCK:
			is = true
		case unix.S_IFCHR:
			_, err := unix.IoctlGetTermios(int(fd), unix.TCGETS)
			is = err == nil
		}
	})
	return err == nil && is
}

func receiveRequest(conn *peer.Conn) (*fdRequest, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	data, oob := make([]byte, requestSize), make([]byte, unix.CmsgSpace(4*4))
	var n, oobn int
	var recvErr error
	err = raw.Read(func(fd uintptr) bool {
		n, oobn, _, _, recvErr = unix.Recvmsg(int(fd), data, oob, unix.MSG_CMSG_CLOEXEC)
		return recvErr != unix.EAGAIN
	})
	if err = errors.Join(err, recvErr); err != nil {
		return nil, fmt.Errorf("receiving a descriptor: %w", err)
	}
	file := firstFile(oob[:oobn])
	req, err := parseRequest(data[:n])
	if err != nil {
		if file != nil {
			_ = file.Close()
		}
		return nil, err
	}
	req.file = file
	return req, nil
}

// firstFile returns the first descriptor of a control message and closes any other.
func firstFile(oob []byte) *os.File {
	var file *os.File
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			if file != nil {
				_ = unix.Close(fd)
				continue
			}
			// A blocking descriptor would occupy a thread.
			_ = unix.SetNonblock(fd, true)
			file = os.NewFile(uintptr(fd), "subscribed")
		}
	}
	return file
}

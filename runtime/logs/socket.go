package logs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/pantavisor/pantavisor/runtime/peer"
)

// Timeouts of a peer on pv-ctrl-log.
const (
	textQuiet = 100 * time.Millisecond // without more data a text counts as whole
	peerIdle  = 60 * time.Second       // between two messages, and within a binary one
)

// Concurrent connections, in total and of one platform. With maxMessage they bound the
// memory that peers can make the server use.
const (
	maxPeers   = 64
	maxPerPeer = 16
)

const firstRead = 4 << 10 // initial bytes of a connection's buffer, which grows to maxMessage

// ListenMessages makes the socket pv-ctrl-log at path; serve takes messages on it until
// its context ends.
//
// A message ends with the connection, with a zero byte, as C libraries send to /dev/log,
// or when no more data comes; then the server closes the connection, as clients that
// send one message expect. The platform of a message is always the peer's; only the
// runtime may log for other platforms.
func (s *Server) ListenMessages(path string) (serve func(context.Context) error, err error) {
	return s.listen(path, func(conn *peer.Conn, platform string) {
		if err := s.converse(conn, platform); err != nil {
			s.Log(Runtime, ownSource, Debug, fmt.Sprintf("message of %s: %v", platform, err))
		}
	})
}

const (
	socketMode    = 0o666
	socketBacklog = 64
)

// listen makes a socket, which must exist before containers start.
func (s *Server) listen(path string, talk func(conn *peer.Conn, platform string)) (func(context.Context) error, error) {
	l, err := peer.Listen(path, socketMode, socketBacklog)
	if err != nil {
		return nil, fmt.Errorf("serving a log socket: %w", err)
	}
	return func(ctx context.Context) error { return s.serve(ctx, l, talk) }, nil
}

// serve accepts connections, identifies the peers and calls talk.
func (s *Server) serve(ctx context.Context, l *peer.Listener, talk func(conn *peer.Conn, platform string)) error {
	guard := &peer.Guard{Max: maxPeers, MaxPer: maxPerPeer}
	stop := context.AfterFunc(ctx, func() {
		_ = l.Close()
		guard.CloseAll()
	})
	defer stop()
	var open sync.WaitGroup
	defer open.Wait()
	defer guard.CloseAll()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil || errors.Is(err, os.ErrClosed) {
			if err == nil {
				_ = conn.Close()
			}
			return nil
		}
		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond): // for example out of descriptors
			}
			continue
		}
		platform := s.platformOf(conn)
		slot := guard.Admit(platform, conn)
		if slot == nil {
			continue
		}
		open.Go(func() {
			defer slot.Release()
			defer conn.Close()
			talk(conn, platform)
		})
	}
}

func (s *Server) platformOf(conn *peer.Conn) string {
	if s.who == nil {
		return unknownPlatform
	}
	platform, err := peer.Identify(conn, s.who)
	if err != nil || platform == "" {
		return unknownPlatform
	}
	return platform
}

func (s *Server) converse(conn *peer.Conn, platform string) error {
	buf := make([]byte, 0, firstRead)
	for {
		wait := peerIdle
		if len(buf) > 0 && buf[0] != 0 {
			wait = textQuiet
		}
		_ = conn.SetReadDeadline(time.Now().Add(wait))
		buf = grow(buf)
		n, err := conn.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		rest, bad := s.deliver(buf, platform, err != nil)
		if bad != nil || err != nil {
			return bad
		}
		buf = append(buf[:0], rest...)
	}
}

// grow returns a larger buffer for a message that is longer than buf.
func grow(buf []byte) []byte {
	if len(buf) < cap(buf) {
		return buf
	}
	return append(make([]byte, 0, min(2*cap(buf), maxMessage+headBytes)), buf...)
}

// deliver logs the whole messages in data and returns the rest.
func (s *Server) deliver(data []byte, platform string, end bool) ([]byte, error) {
	for {
		m, rest, ok, err := cutMessage(data, end)
		if err != nil || !ok {
			return rest, err
		}
		data = rest
		from, f := platform, fromMessage
		if platform == Runtime {
			f = fromRuntime
			if m.Platform != "" && m.Platform != Runtime {
				from, f = m.Platform, fromMessage
			}
		}
		s.put(from, m.Source, m.Level, f, []byte(m.Text))
	}
}

// parseRequest reads the four parts of a request on pv-fd-log.
func parseRequest(data []byte) (*fdRequest, error) {
	if len(data) != requestSize {
		return nil, fmt.Errorf("reading a subscription: %d bytes, want %d: platform and source of %d each, level, action", len(data), requestSize, nameSize)
	}
	req := &fdRequest{
		platform: cString(data[:nameSize]),
		source:   cString(data[nameSize : 2*nameSize]),
		level:    Level(int32(binary.NativeEndian.Uint32(data[2*nameSize:]))),
		action:   int32(binary.NativeEndian.Uint32(data[2*nameSize+4:])),
	}
	if req.level < Fatal || req.level > All {
		req.level = Info
	}
	if req.source == "" {
		req.source = fallbackSource
	}
	return req, nil
}

func cString(b []byte) string {
	text, _, _ := bytes.Cut(b, []byte{0})
	return string(text)
}

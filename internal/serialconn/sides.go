package serialconn

import (
	"bufio"
	"context"
	"errors"
	"io"
	"time"
)

// pause is the time between two invitations.
const pause = time.Second

// fresh is how long the host may rely on an invitation. crossing is how long one may be on
// its way while the first data of a connection are: a device does not invite while it has one.
const (
	fresh    = 3 * pause
	crossing = 10 * pause
)

// bufferSize holds the largest frame.
const bufferSize = 2 * maxData

// Serve answers the connections on a device's serial line, one after the other, until the
// line fails or ctx ends, which does not end a read that waits: close the line too. handle
// closes its connection.
func Serve(ctx context.Context, rw io.ReadWriter, handle func(context.Context, *Conn)) error {
	l := &line{rw: rw}
	failed := make(chan error, 1)
	begun := make(chan *Conn)
	go func() { failed <- l.receive(ctx, begun) }()
	invite := time.NewTicker(pause)
	defer invite.Stop()
	for {
		if err := l.send(frame{kind: invitation}); err != nil {
			return l.fail(err)
		}
		select {
		case c := <-begun:
			handle(ctx, c)
			_ = c.Close()
		case <-invite.C:
		case err := <-failed:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// receive reads a device's line. The data of a connection that has ended are passed over.
func (l *line) receive(ctx context.Context, begun chan<- *Conn) error {
	r := bufio.NewReaderSize(l.rw, bufferSize)
	last := uint16(0)
	for {
		f, err := readFrame(r)
		if err != nil {
			return l.fail(err)
		}
		if f.kind == data && f.id != last {
			last = f.id
			c := l.open(f.id)
			select {
			case begun <- c:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		l.deliver(f)
	}
}

// Host is the host's end of a serial line.
type Host struct {
	line    line
	last    uint16
	invited chan time.Time // holds the last invitation
}

// NewHost begins to read a line. It ends when reading does.
func NewHost(rw io.ReadWriter) *Host {
	h := &Host{line: line{rw: rw}, invited: make(chan time.Time, 1)}
	go h.receive()
	return h
}

func (h *Host) receive() {
	r := bufio.NewReaderSize(h.line.rw, bufferSize)
	for {
		f, err := readFrame(r)
		if err != nil {
			_ = h.line.fail(err)
			close(h.invited)
			return
		}
		if f.kind != invitation {
			h.line.deliver(f)
			continue
		}
		if c := h.line.current(); c != nil && time.Since(c.opened) > crossing {
			c.finish(io.ErrUnexpectedEOF) // the device has started anew
		}
		select {
		case <-h.invited:
		default:
		}
		h.invited <- time.Now()
	}
}

var errClosed = errors.New("the serial line was closed")

// Dial waits until the device invites, and opens a connection. One must be closed before the
// next one is opened.
func (h *Host) Dial(ctx context.Context) (*Conn, error) {
	for {
		select {
		case at, ok := <-h.invited:
			if !ok {
				return nil, errClosed
			}
			if time.Since(at) > fresh {
				continue
			}
			h.last++
			if h.last == 0 {
				h.last++
			}
			return h.line.open(h.last), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

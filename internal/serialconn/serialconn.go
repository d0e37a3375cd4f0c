// Package serialconn carries connections over a serial line, one at a time: a device lets
// the host of its emulator ask the control API where there is no virtio-serial.
//
// A serial line has no beginning and no end: boot loaders and kernels may print on it, and
// the device may restart in the middle of an answer. So everything is sent in frames, and
// the device speaks first: every second without a connection it sends an invitation, and
// only after one does the host send, because what it sends earlier would be typed into a
// boot loader.
//
//	bytes | content
//	4     | 0xA5 'p' 'v' and the kind: 'I' invitation, 'D' data, 'E' end of the connection
//	2     | number of the connection, chosen by the host; 0 for invitations
//	2     | length of the data, at most 1024
//	n     | data
//	4     | CRC-32 (IEEE) of all of the above
//
// Numbers are little-endian. What is not a frame is passed over. The first data of a new
// number begins a connection and ends the one before.
package serialconn

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"time"
)

const (
	headerSize = 8
	maxData    = 1024
)

// beginning is that of every frame.
var beginning = [3]byte{0xA5, 'p', 'v'}

// Kinds of frames.
const (
	invitation = 'I'
	data       = 'D'
	end        = 'E'
)

// frame is one message of the line.
type frame struct {
	kind byte
	id   uint16
	data []byte
}

func (f frame) encode() []byte {
	b := make([]byte, 0, headerSize+len(f.data)+4)
	b = append(b, beginning[0], beginning[1], beginning[2], f.kind)
	b = binary.LittleEndian.AppendUint16(b, f.id)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(f.data)))
	b = append(b, f.data...)
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

// readFrame returns the next frame of the line. Its size bounds what a false beginning
// swallows: the search goes on behind the beginning, not behind the frame.
func readFrame(r *bufio.Reader) (frame, error) {
	for {
		head, err := r.Peek(headerSize)
		if err != nil {
			return frame{}, err
		}
		n := int(binary.LittleEndian.Uint16(head[6:]))
		if [3]byte(head[:3]) == beginning && n <= maxData {
			whole, err := r.Peek(headerSize + n + 4)
			if err != nil {
				return frame{}, err
			}
			body := whole[:headerSize+n]
			if crc32.ChecksumIEEE(body) == binary.LittleEndian.Uint32(whole[len(body):]) {
				f := frame{body[3], binary.LittleEndian.Uint16(body[4:]), append([]byte(nil), body[headerSize:]...)}
				_, err = r.Discard(len(whole))
				return f, err
			}
		}
		if _, err := r.Discard(1); err != nil {
			return frame{}, err
		}
	}
}

// line is the serial line with the connection that it carries.
type line struct {
	rw io.ReadWriter

	writing sync.Mutex // a frame is written as a whole

	mu   sync.Mutex
	conn *Conn // nil: none
	err  error // why the line cannot be used any more
}

func (l *line) send(f frame) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	_, err := l.rw.Write(f.encode())
	return err
}

// open makes a connection the current one, and ends the one before.
func (l *line) open(id uint16) *Conn {
	c := &Conn{line: l, id: id, opened: time.Now(), done: make(chan struct{})}
	c.in, c.fill = io.Pipe()
	l.mu.Lock()
	before := l.conn
	l.conn = c
	l.mu.Unlock()
	if before != nil {
		before.finish(io.EOF)
	}
	return c
}

func (l *line) current() *Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conn
}

// leave takes a connection off the line.
func (l *line) leave(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == c {
		l.conn = nil
	}
}

// fail ends the line and what it carries.
func (l *line) fail(err error) error {
	err = fmt.Errorf("reading the serial line: %w", err)
	l.mu.Lock()
	l.err = err
	c := l.conn
	l.mu.Unlock()
	if c != nil {
		c.finish(err)
	}
	return err
}

// deliver gives a frame to the current connection.
func (l *line) deliver(f frame) {
	c := l.current()
	if c == nil || c.id != f.id {
		return
	}
	if f.kind == end {
		c.finish(io.EOF)
		return
	}
	_, _ = c.fill.Write(f.data) // fails when the connection was closed
}

// Conn is one connection.
type Conn struct {
	line *line
	id   uint16
	in   *io.PipeReader
	fill *io.PipeWriter
	once sync.Once
	done chan struct{}

	opened time.Time
}

var _ io.ReadWriteCloser = (*Conn)(nil)

// finish ends the connection: what comes in last is read, then err.
func (c *Conn) finish(err error) {
	c.once.Do(func() {
		_ = c.fill.CloseWithError(err)
		c.line.leave(c)
		close(c.done)
	})
}

// Read implements io.Reader.
func (c *Conn) Read(b []byte) (int, error) { return c.in.Read(b) }

// Write implements io.Writer.
func (c *Conn) Write(b []byte) (int, error) {
	for n := 0; n < len(b); {
		select {
		case <-c.done:
			return n, io.ErrClosedPipe
		default:
		}
		piece := b[n:min(len(b), n+maxData)]
		if err := c.line.send(frame{data, c.id, piece}); err != nil {
			return n, err
		}
		n += len(piece)
	}
	return len(b), nil
}

// Close ends the connection, also for the other side.
func (c *Conn) Close() error {
	select {
	case <-c.done:
		_ = c.in.Close()
		return nil
	default:
	}
	c.finish(io.ErrClosedPipe)
	_ = c.in.Close()
	return c.line.send(frame{kind: end, id: c.id})
}

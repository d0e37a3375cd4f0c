package powercut

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
)

// Numbers of the protocol (NBD: doc/proto.md, fixed newstyle negotiation).
const (
	nbdMagic      = 0x4e42444d41474943 // NBDMAGIC
	optionMagic   = 0x49484156454f5054 // IHAVEOPT
	optionReply   = 0x0003e889045565a9
	requestMagic  = 0x25609513
	simpleReply   = 0x67446698
	fixedNewstyle = 1 << 0
	noZeroes      = 1 << 1

	optExportName = 1
	optAbort      = 2
	optInfo       = 6
	optGo         = 7

	replyAck         = 1
	replyInfo        = 3
	replyUnsupported = 1<<31 + 1
	infoExport       = 0
	infoBlockSize    = 3

	hasFlags  = 1 << 0
	sendFlush = 1 << 2

	cmdRead  = 0
	cmdWrite = 1
	cmdDisc  = 2
	cmdFlush = 3

	nbdInvalid = 22 // EINVAL

	maxOption  = 4 << 10
	maxRequest = 32 << 20
)

// medium is what a server serves. A write that has returned may be lost until Flush returns.
type medium interface {
	io.ReaderAt
	io.WriterAt
	Flush() error
	Size() int64
}

// serveNBD answers the clients of a listener, one after the other, until it is closed: a client is
// QEMU, whose end of the connection is the end of the power.
func serveNBD(l net.Listener, m medium) error {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("serving a disk: %w", err)
		}
		err = serveOne(conn, m)
		_ = conn.Close()
		if err != nil {
			return fmt.Errorf("serving a disk: %w", err)
		}
	}
}

// serveOne answers one client. A client that is gone is not an error.
func serveOne(conn io.ReadWriter, m medium) error {
	c := &client{r: bufio.NewReaderSize(conn, 64<<10), w: bufio.NewWriterSize(conn, 64<<10), medium: m}
	ready, err := c.negotiate()
	for err == nil && ready {
		ready, err = c.request()
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, new(*net.OpError)) {
		return nil
	}
	return err
}

// client is one connection.
type client struct {
	r      *bufio.Reader
	w      *bufio.Writer
	medium medium
	zeroes bool // the client wants padding
}

// put writes numbers and bytes in network order.
func (c *client) put(values ...any) {
	for _, v := range values {
		_ = binary.Write(c.w, binary.BigEndian, v) // bufio.Writer keeps the error for Flush
	}
}

// get reads numbers in network order.
func (c *client) get(into any) error { return binary.Read(c.r, binary.BigEndian, into) }

// negotiate is the handshake; ready is false when the client ends it.
func (c *client) negotiate() (ready bool, err error) {
	c.put(uint64(nbdMagic), uint64(optionMagic), uint16(fixedNewstyle|noZeroes))
	if err := c.w.Flush(); err != nil {
		return false, err
	}
	var flags uint32
	if err := c.get(&flags); err != nil {
		return false, err
	}
	c.zeroes = flags&noZeroes == 0
	for {
		var o struct {
			Magic       uint64
			Option, Len uint32
		}
		if err := c.get(&o); err != nil {
			return false, err
		}
		if o.Magic != optionMagic || o.Len > maxOption {
			return false, fmt.Errorf("option %d with %d bytes and magic number %x is not one of the protocol", o.Option, o.Len, o.Magic)
		}
		if _, err := c.r.Discard(int(o.Len)); err != nil { // a name: there is one disk
			return false, err
		}
		done, ready := c.option(o.Option)
		if err := c.w.Flush(); err != nil || done {
			return ready, err
		}
	}
}

// option answers one; done ends the handshake.
func (c *client) option(option uint32) (done, ready bool) {
	switch option {
	case optExportName:
		c.put(uint64(c.medium.Size()), uint16(hasFlags|sendFlush))
		if c.zeroes {
			c.put(make([]byte, 124))
		}
		return true, true
	case optAbort:
		c.reply(option, replyAck)
		return true, false
	case optInfo, optGo:
		c.reply(option, replyInfo, uint16(infoExport), uint64(c.medium.Size()), uint16(hasFlags|sendFlush))
		c.reply(option, replyInfo, uint16(infoBlockSize), uint32(sector), uint32(block), uint32(maxRequest))
		c.reply(option, replyAck)
		return option == optGo, true
	}
	c.reply(option, replyUnsupported)
	return false, false
}

func (c *client) reply(option, kind uint32, values ...any) {
	size := 0
	for _, v := range values {
		size += binary.Size(v)
	}
	c.put(uint64(optionReply), option, kind, uint32(size))
	c.put(values...)
}

// request answers one request; it returns false when the client has taken its leave.
func (c *client) request() (more bool, err error) {
	var q struct {
		Magic       uint32
		Flags, Kind uint16
		Handle, Off uint64
		Len         uint32
	}
	if err := c.get(&q); err != nil {
		return false, err
	}
	size := uint64(c.medium.Size())
	if q.Magic != requestMagic || q.Len > maxRequest || q.Off > size || uint64(q.Len) > size-q.Off {
		return false, fmt.Errorf("request %d of %d bytes at %d is not one of the protocol", q.Kind, q.Len, q.Off)
	}
	var failed error
	var data []byte
	switch q.Kind {
	case cmdDisc:
		return false, nil
	case cmdFlush:
		failed = c.medium.Flush()
	case cmdRead:
		data = make([]byte, q.Len)
		_, failed = c.medium.ReadAt(data, int64(q.Off))
	case cmdWrite:
		data := make([]byte, q.Len)
		if _, err := io.ReadFull(c.r, data); err != nil {
			return false, err
		}
		_, failed = c.medium.WriteAt(data, int64(q.Off))
	default:
		failed = errors.ErrUnsupported
	}
	code := uint32(0)
	if failed != nil {
		code, data = nbdInvalid, nil
	}
	c.put(uint32(simpleReply), code, q.Handle, data)
	return true, c.w.Flush()
}

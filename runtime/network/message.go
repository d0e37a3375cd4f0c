package network

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// message is a netlink message under construction (RFC 3549; linux/netlink.h). Length
// and sequence number are set when it is sent.
type message struct{ b []byte }

var native = binary.NativeEndian

// newMessage begins a request with the header of its family.
func newMessage(kind, flags uint16, header []byte) *message {
	m := &message{b: make([]byte, unix.SizeofNlMsghdr, 256)}
	native.PutUint16(m.b[4:], kind)
	native.PutUint16(m.b[6:], flags|unix.NLM_F_REQUEST)
	m.b = append(m.b, header...)
	return m
}

// attr adds an attribute.
func (m *message) attr(kind uint16, value []byte) *message {
	m.b = native.AppendUint16(m.b, uint16(unix.SizeofRtAttr+len(value)))
	m.b = native.AppendUint16(m.b, kind)
	m.b = append(m.b, value...)
	for len(m.b)%4 != 0 {
		m.b = append(m.b, 0)
	}
	return m
}

// text adds a string with its final zero.
func (m *message) text(kind uint16, s string) *message {
	return m.attr(kind, append([]byte(s), 0))
}

// word adds 32 bits in the machine's byte order.
func (m *message) word(kind uint16, v uint32) *message {
	return m.attr(kind, native.AppendUint32(nil, v))
}

// netWord adds 32 bits in network byte order, as nftables has them.
func (m *message) netWord(kind uint16, v uint32) *message {
	return m.attr(kind, binary.BigEndian.AppendUint32(nil, v))
}

// nest adds an attribute that holds others.
func (m *message) nest(kind uint16, fill func()) *message {
	start := len(m.b)
	m.attr(kind|unix.NLA_F_NESTED, nil)
	fill()
	native.PutUint16(m.b[start:], uint16(len(m.b)-start))
	return m
}

// raw adds bytes that are not an attribute, padded already.
func (m *message) raw(b []byte) { m.b = append(m.b, b...) }

// conn is a netlink socket. It belongs to the network namespace in which it was made.
type conn struct {
	fd  int
	seq uint32
}

func dial(protocol int) (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return &conn{fd: fd}, nil
}

func (c *conn) close() { _ = unix.Close(c.fd) }

// number sets the length and sequence number of a message.
func (c *conn) number(m *message) uint32 {
	c.seq++
	native.PutUint32(m.b, uint32(len(m.b)))
	native.PutUint32(m.b[8:], c.seq)
	return c.seq
}

// do sends a request and waits for its acknowledgement.
func (c *conn) do(m *message) error {
	native.PutUint16(m.b[6:], native.Uint16(m.b[6:])|unix.NLM_F_ACK)
	seq := c.number(m)
	if err := unix.Sendto(c.fd, m.b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	return c.answer(seq, nil)
}

// answer reads until the answer to a request is complete. It calls each with every
// message but an acknowledgement.
func (c *conn) answer(seq uint32, each func(body []byte)) error {
	buf := make([]byte, 32<<10)
	for {
		n, _, err := unix.Recvfrom(c.fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		for data := buf[:n]; len(data) >= unix.SizeofNlMsghdr; {
			size := int(native.Uint32(data))
			if size < unix.SizeofNlMsghdr || size > len(data) {
				return fmt.Errorf("reading the kernel's answer: a message of %d bytes in %d", size, len(data))
			}
			kind, flags, got := native.Uint16(data[4:]), native.Uint16(data[6:]), native.Uint32(data[8:])
			body := data[unix.SizeofNlMsghdr:size]
			if got == seq {
				if done, err := verdict(kind, flags, body, each); done {
					return err
				}
			}
			data = data[min(len(data), (size+3)&^3):]
		}
	}
}

// verdict handles one message; done reports whether it is the last.
func verdict(kind, flags uint16, body []byte, each func([]byte)) (done bool, err error) {
	switch {
	case kind == unix.NLMSG_DONE:
		return true, nil
	case kind == unix.NLMSG_ERROR && len(body) >= 4:
		if code := int32(native.Uint32(body)); code != 0 {
			return true, unix.Errno(-code)
		}
		return true, nil
	case each != nil:
		each(body)
		return flags&unix.NLM_F_MULTI == 0 && kind != unix.NLMSG_NOOP, nil
	}
	return false, nil
}

// ask sends a request whose answer is a message, or several with NLM_F_DUMP.
func (c *conn) ask(m *message, each func(body []byte)) error {
	seq := c.number(m)
	if err := unix.Sendto(c.fd, m.b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	return c.answer(seq, each)
}

// number returns the value of a 32-bit attribute, 0 for one of another size.
func number(v []byte) uint32 {
	if len(v) != 4 {
		return 0
	}
	return native.Uint32(v)
}

// attrs calls each with the attributes in data.
func attrs(data []byte, each func(kind uint16, value []byte)) {
	for len(data) >= unix.SizeofRtAttr {
		size := int(native.Uint16(data))
		if size < unix.SizeofRtAttr || size > len(data) {
			return
		}
		each(native.Uint16(data[2:])&^uint16(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), data[unix.SizeofRtAttr:size])
		data = data[min(len(data), (size+3)&^3):]
	}
}

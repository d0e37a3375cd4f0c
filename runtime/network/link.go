package network

import (
	"errors"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// link is a network interface as the kernel reports it.
type link struct {
	index  int
	name   string
	master int
	alias  string
	kind   string // "bridge", "veth"; "" for hardware
	up     bool
}

// linkHeader is struct ifinfomsg.
func linkHeader(index int, flags, change uint32) []byte {
	b := []byte{unix.AF_UNSPEC, 0, 0, 0}
	b = native.AppendUint32(b, uint32(index))
	b = native.AppendUint32(b, flags)
	return native.AppendUint32(b, change)
}

func parseLink(body []byte) (l link) {
	if len(body) < unix.SizeofIfInfomsg {
		return l
	}
	l.index = int(int32(native.Uint32(body[4:])))
	l.up = native.Uint32(body[8:])&unix.IFF_UP != 0
	attrs(body[unix.SizeofIfInfomsg:], func(kind uint16, v []byte) {
		switch kind {
		case unix.IFLA_IFNAME:
			l.name = strings.TrimRight(string(v), "\x00")
		case unix.IFLA_IFALIAS:
			l.alias = strings.TrimRight(string(v), "\x00")
		case unix.IFLA_MASTER:
			l.master = int(number(v))
		case unix.IFLA_LINKINFO:
			attrs(v, func(kind uint16, v []byte) {
				if kind == unix.IFLA_INFO_KIND {
					l.kind = strings.TrimRight(string(v), "\x00")
				}
			})
		}
	})
	return l
}

// byName finds an interface; the error is ENODEV when it does not exist.
func (c *conn) byName(name string) (l link, err error) {
	m := newMessage(unix.RTM_GETLINK, 0, linkHeader(0, 0, 0)).text(unix.IFLA_IFNAME, name)
	err = c.ask(m, func(body []byte) { l = parseLink(body) })
	return l, err
}

// links lists all interfaces.
func (c *conn) links() (list []link, err error) {
	err = c.ask(newMessage(unix.RTM_GETLINK, unix.NLM_F_DUMP, linkHeader(0, 0, 0)), func(body []byte) {
		list = append(list, parseLink(body))
	})
	return list, err
}

const create = unix.NLM_F_CREATE | unix.NLM_F_EXCL

// peer is VETH_INFO_PEER (linux/veth.h).
const peer = 1

// addBridge makes a bridge with the alias of the runtime's bridges.
func (c *conn) addBridge(name, alias string) error {
	m := newMessage(unix.RTM_NEWLINK, create, linkHeader(0, 0, 0)).text(unix.IFLA_IFNAME, name)
	m.nest(unix.IFLA_LINKINFO, func() { m.text(unix.IFLA_INFO_KIND, "bridge") })
	if err := c.do(m); err != nil {
		return err
	}
	l, err := c.byName(name)
	if err != nil {
		return err
	}
	return c.do(newMessage(unix.RTM_NEWLINK, 0, linkHeader(l.index, 0, 0)).text(unix.IFLA_IFALIAS, alias))
}

// addVeth makes a pair with one side here and the other in the namespace of a process.
func (c *conn) addVeth(i Interface, pid int) error {
	m := newMessage(unix.RTM_NEWLINK, create, linkHeader(0, 0, 0)).text(unix.IFLA_IFNAME, i.Pair)
	i.size(m)
	m.nest(unix.IFLA_LINKINFO, func() {
		m.text(unix.IFLA_INFO_KIND, "veth")
		m.nest(unix.IFLA_INFO_DATA, func() {
			m.nest(peer, func() {
				m.raw(linkHeader(0, 0, 0))
				i.inside(m, pid)
			})
		})
	})
	return c.do(m)
}

// macvlanModes are the bits of IFLA_MACVLAN_MODE (linux/if_link.h).
var macvlanModes = map[string]uint32{"private": 1, "": 1, "vepa": 2, "bridge": 4, "passthru": 8}

// addMacvlan makes a macvlan interface on another interface, in the namespace of a
// process.
func (c *conn) addMacvlan(i Interface, parent, pid int) error {
	m := newMessage(unix.RTM_NEWLINK, create, linkHeader(0, 0, 0)).word(unix.IFLA_LINK, uint32(parent))
	i.inside(m, pid)
	m.nest(unix.IFLA_LINKINFO, func() {
		m.text(unix.IFLA_INFO_KIND, "macvlan")
		m.nest(unix.IFLA_INFO_DATA, func() { m.word(unix.IFLA_MACVLAN_MODE, macvlanModes[i.Mode]) })
	})
	return c.do(m)
}

// inside adds the attributes of the interface in the container.
func (i Interface) inside(m *message, pid int) {
	m.text(unix.IFLA_IFNAME, i.Name).word(unix.IFLA_NET_NS_PID, uint32(pid))
	if len(i.MAC) > 0 {
		m.attr(unix.IFLA_ADDRESS, i.MAC)
	}
	i.size(m)
}

func (i Interface) size(m *message) {
	if i.MTU > 0 {
		m.word(unix.IFLA_MTU, uint32(i.MTU))
	}
}

// move moves an interface to the namespace of a process.
func (c *conn) move(index, pid int) error {
	return c.do(newMessage(unix.RTM_NEWLINK, 0, linkHeader(index, 0, 0)).word(unix.IFLA_NET_NS_PID, uint32(pid)))
}

func (c *conn) setMaster(index, master int) error {
	return c.do(newMessage(unix.RTM_NEWLINK, 0, linkHeader(index, 0, 0)).word(unix.IFLA_MASTER, uint32(master)))
}

func (c *conn) setUp(index int) error {
	return c.do(newMessage(unix.RTM_NEWLINK, 0, linkHeader(index, unix.IFF_UP, unix.IFF_UP)))
}

// rename renames an interface, which must be down.
func (c *conn) rename(index int, name string) error {
	return c.do(newMessage(unix.RTM_NEWLINK, 0, linkHeader(index, 0, 0)).text(unix.IFLA_IFNAME, name))
}

// remove deletes an interface; one that does not exist is not an error.
func (c *conn) remove(name string) error {
	m := newMessage(unix.RTM_DELLINK, 0, linkHeader(0, 0, 0)).text(unix.IFLA_IFNAME, name)
	if err := c.do(m); err != nil && !errors.Is(err, unix.ENODEV) {
		return err
	}
	return nil
}

func family(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// addAddress adds an address to an interface; one that it already has is not an error.
func (c *conn) addAddress(index int, p netip.Prefix) error {
	a := p.Addr()
	header := native.AppendUint32([]byte{family(a), byte(p.Bits()), 0, unix.RT_SCOPE_UNIVERSE}, uint32(index))
	m := newMessage(unix.RTM_NEWADDR, create, header).attr(unix.IFA_LOCAL, a.AsSlice()).attr(unix.IFA_ADDRESS, a.AsSlice())
	if a.Is4() && p.Bits() < 31 {
		m.attr(unix.IFA_BROADCAST, last(p).AsSlice())
	}
	if a.Is6() { // no duplicate address detection
		m.word(unix.IFA_FLAGS, unix.IFA_F_NODAD)
	}
	if err := c.do(m); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// address returns the first global address of an interface.
func (c *conn) address(index int, four bool) (found netip.Addr, err error) {
	kind := byte(unix.AF_INET6)
	if four {
		kind = unix.AF_INET
	}
	m := newMessage(unix.RTM_GETADDR, unix.NLM_F_DUMP, []byte{kind, 0, 0, 0, 0, 0, 0, 0})
	err = c.ask(m, func(body []byte) {
		if len(body) < unix.SizeofIfAddrmsg || found.IsValid() || body[3] != unix.RT_SCOPE_UNIVERSE || int(native.Uint32(body[4:])) != index {
			return
		}
		attrs(body[unix.SizeofIfAddrmsg:], func(kind uint16, v []byte) {
			if a, ok := netip.AddrFromSlice(v); ok && (kind == unix.IFA_LOCAL || kind == unix.IFA_ADDRESS && !four) {
				found = a
			}
		})
	})
	if err == nil && !found.IsValid() {
		err = errors.New("the interface has no address of this family")
	}
	return found, err
}

// last returns the last address of a range.
func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// addDefaultRoute adds a default route through a gateway, which may be outside of the
// interface's network.
func (c *conn) addDefaultRoute(index int, gateway netip.Addr) error {
	header := []byte{family(gateway), 0, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST}
	header = native.AppendUint32(header, unix.RTNH_F_ONLINK)
	m := newMessage(unix.RTM_NEWROUTE, create, header).attr(unix.RTA_GATEWAY, gateway.AsSlice()).word(unix.RTA_OIF, uint32(index))
	return c.do(m)
}

package network

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// take applies a lease, or removes the one that was lost.
func (m *manager) take(msg leaseChange) {
	l, ok := m.links[msg.index]
	if !ok || msg.ctx.Err() != nil {
		return
	}
	if msg.lease == nil {
		m.drop(l)
		m.writeResolv()
		return
	}
	if l.lease != nil && l.lease.Prefix != msg.lease.Prefix {
		m.drop(l)
	}
	fresh := l.lease == nil
	l.lease = msg.lease
	m.setAddr(l, msg.lease.Prefix, msg.lease.expire)
	for _, r := range msg.lease.routes() {
		m.setRoute(l, r)
	}
	m.writeResolv()
	if fresh {
		m.Log.Printf("%s: %s by DHCP for %v, router %s", l.name, msg.lease.Prefix, msg.lease.expire, msg.lease.Gateway)
	}
}

// routes returns the classless routes, or the default route when there are none.
func (l *lease) routes() []route {
	if len(l.Routes) > 0 || !l.Gateway.IsValid() {
		return l.Routes
	}
	return []route{{netip.PrefixFrom(netip.IPv4Unspecified(), 0), l.Gateway}}
}

// setStatic sets the fixed addresses of the command line.
func (m *manager) setStatic(l *link) {
	for _, f := range m.fixed(l) {
		if f.Mode != Static {
			continue
		}
		m.setAddr(l, f.Prefix, 0)
		if f.Gateway.IsValid() {
			any := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
			if f.Gateway.Is6() {
				any = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
			}
			m.setRoute(l, route{any, f.Gateway})
		}
		l.static = true
	}
	m.writeResolv()
}

// setAddr adds or refreshes an address. The kernel removes it when the lifetime is over,
// even if this program has ended; 0 is for ever.
func (m *manager) setAddr(l *link, p netip.Prefix, life time.Duration) {
	a := &netlink.Addr{IPNet: ipNet(p), ValidLft: int(life / time.Second), PreferedLft: int(life / time.Second)}
	if err := netlink.AddrReplace(byIndex(l.index), a); err != nil {
		m.Log.Printf("%s: setting %s: %v", l.name, p, err)
	}
}

// setRoute adds a route. Interfaces found later get a higher metric, so that there can be
// several default routes.
func (m *manager) setRoute(l *link, r route) {
	const base = 100
	nr := &netlink.Route{LinkIndex: l.index, Dst: ipNet(r.To), Priority: base + l.index, Protocol: unix.RTPROT_DHCP}
	if r.Via.Is4() && r.Via.IsUnspecified() {
		nr.Scope = netlink.SCOPE_LINK // RFC 3442: the prefix is on the link itself
	}
	if !r.Via.IsUnspecified() {
		nr.Gw = r.Via.AsSlice()
		nr.Flags = int(netlink.FLAG_ONLINK) // the router may be outside of the prefix
	}
	if err := netlink.RouteReplace(nr); err != nil {
		m.Log.Printf("%s: routing %s via %s: %v", l.name, r.To, r.Via, err)
	}
}

// drop removes the addresses and routes that this program has set.
func (m *manager) drop(l *link) {
	if l.lease != nil {
		for _, r := range l.lease.routes() {
			_ = netlink.RouteDel(&netlink.Route{LinkIndex: l.index, Dst: ipNet(r.To), Priority: 100 + l.index})
		}
		m.delAddr(l, l.lease.Prefix)
		l.lease = nil
	}
	if !l.static {
		return
	}
	for _, f := range m.fixed(l) {
		if f.Mode == Static {
			m.delAddr(l, f.Prefix)
		}
	}
	l.static = false
}

func (m *manager) delAddr(l *link, p netip.Prefix) {
	err := netlink.AddrDel(byIndex(l.index), &netlink.Addr{IPNet: ipNet(p)})
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.ENODEV) {
		m.Log.Printf("%s: removing %s: %v", l.name, p, err)
	}
}

func byIndex(index int) netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}}
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

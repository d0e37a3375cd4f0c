// Package network brings up a device's Ethernet: the program of the starter
// container "network".
//
// It listens to the kernel's link and address events. It sets every Ethernet interface
// up; while the interface has a carrier, it has a lease (RFC 2131), which a goroutine
// extends, or a fixed address. Addresses are published in device metadata, name servers
// are written to resolv.conf. The kernel itself handles IPv6 router advertisements
// (RFC 4861).
//
//	event                   effect
//	interface appears       set up
//	carrier                 DHCP starts, or the fixed address is set
//	lease new or extended   address with its lifetime, routes, resolv.conf
//	lease lost, refused     address and routes are removed, DHCP starts again
//	no carrier or interface DHCP ends, address and routes are removed
package network

import (
	"context"
	"fmt"
	"log"
	"net/netip"
	"os"
	"sort"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Config is the configuration of [Run].
type Config struct {
	Options
	// ResolvConf is the file that name servers are written to. It is written in
	// place: in the container it is a bind mount of the host's file.
	ResolvConf string
	// Socket is the runtime's control socket.
	Socket string
	// Log takes messages for people. Default: the standard logger.
	Log *log.Logger
}

type manager struct {
	Config
	links  map[int]*link
	leases chan leaseChange
	pub    *publisher
}

// link is an interface that the program manages.
type link struct {
	linkState
	index  int
	up     bool // has a carrier
	stop   context.CancelFunc
	static bool // the fixed addresses are set
	gadget bool // the device's end of a USB gadget
	lease  *lease
}

// linkState is the published state of an interface.
type linkState struct {
	name  string
	mac   string
	addrs []netip.Prefix
}

// leaseChange is a message of a DHCP goroutine: the lease that the interface now has.
type leaseChange struct {
	index int
	ctx   context.Context // of the goroutine; when it has ended, the message is ignored
	lease *lease
	done  chan struct{} // closed when the lease is in effect
}

// Run manages the network until ctx ends. It then leaves the addresses in place: a
// restart of the container should not break connections.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Log == nil {
		cfg.Log = log.Default()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m := &manager{Config: cfg, links: map[int]*link{}, leases: make(chan leaseChange), pub: newPublisher()}
	linkEvents := make(chan netlink.LinkUpdate, 64)
	addrEvents := make(chan netlink.AddrUpdate, 64)
	if err := subscribe(ctx, linkEvents, addrEvents); err != nil {
		return err
	}
	go m.pub.run(ctx, func(v []byte) error { return putMeta(ctx, cfg.Socket, metaKey, v) }, cfg.Log.Printf)
	if cfg.Gadget {
		go func() {
			if err := newGadget(cfg).run(ctx); err != nil && ctx.Err() == nil {
				cfg.Log.Print(err)
			}
		}()
	}
	return m.loop(ctx, linkEvents, addrEvents)
}

func subscribe(ctx context.Context, links chan netlink.LinkUpdate, addrs chan netlink.AddrUpdate) error {
	err := netlink.LinkSubscribeWithOptions(links, ctx.Done(), netlink.LinkSubscribeOptions{ListExisting: true})
	if err != nil {
		return fmt.Errorf("listening to link events: %w", err)
	}
	err = netlink.AddrSubscribeWithOptions(addrs, ctx.Done(), netlink.AddrSubscribeOptions{ListExisting: true})
	if err != nil {
		return fmt.Errorf("listening to address events: %w", err)
	}
	return nil
}

func (m *manager) loop(ctx context.Context, links chan netlink.LinkUpdate, addrs chan netlink.AddrUpdate) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case ev, ok := <-links:
			if !ok {
				return fmt.Errorf("listening to link events: the subscription has ended")
			}
			m.linkEvent(ctx, ev)
		case ev, ok := <-addrs:
			if !ok {
				return fmt.Errorf("listening to address events: the subscription has ended")
			}
			m.addrEvent(ev)
		case l := <-m.leases:
			m.take(l)
			close(l.done)
		}
	}
}

// wanted reports whether to manage an interface: Ethernet hardware, but no bridges,
// tunnels or veth pairs, which other programs have made.
func (m *manager) wanted(l netlink.Link) bool {
	a := l.Attrs()
	if m.Interface != "" {
		return a.Name == m.Interface || m.Gadget && isGadget(a.Name)
	}
	return a.EncapType == "ether" && l.Type() == "device" && a.MasterIndex == 0
}

func (m *manager) linkEvent(ctx context.Context, ev netlink.LinkUpdate) {
	index := int(ev.Index)
	if ev.Header.Type == unix.RTM_DELLINK {
		m.gone(index)
		return
	}
	l, known := m.links[index]
	if !known {
		if !m.wanted(ev.Link) {
			return
		}
		l = &link{index: index, gadget: m.Gadget && isGadget(ev.Attrs().Name)}
		m.links[index] = l
	}
	l.name, l.mac = ev.Attrs().Name, ev.Attrs().HardwareAddr.String()
	if !known {
		m.start(l, ev.Link)
	}
	carrier := ev.IfInfomsg.Flags&unix.IFF_LOWER_UP != 0 && ev.IfInfomsg.Flags&unix.IFF_UP != 0
	if carrier != l.up {
		m.setCarrier(ctx, l, carrier)
	}
	m.publish()
}

func (m *manager) start(l *link, nl netlink.Link) {
	m.Log.Printf("%s: found, address %s", l.name, l.mac)
	if m.IPv6.Mode == Off {
		path := "/proc/sys/net/ipv6/conf/" + l.name + "/disable_ipv6"
		if err := os.WriteFile(path, []byte("1"), 0); err != nil {
			m.Log.Printf("%s: switching IPv6 off: %v", l.name, err)
		}
	}
	if err := netlink.LinkSetUp(nl); err != nil {
		m.Log.Printf("%s: setting it up: %v", l.name, err)
	}
}

func (m *manager) setCarrier(ctx context.Context, l *link, carrier bool) {
	l.up = carrier
	if !carrier {
		m.Log.Printf("%s: no carrier", l.name)
		m.halt(l)
		return
	}
	m.Log.Printf("%s: carrier", l.name)
	m.setStatic(l)
	if l.gadget {
		m.serveHost(ctx, l)
		return
	}
	if m.fixed(l)[0].Mode != Auto {
		return
	}
	ctx, l.stop = context.WithCancel(ctx)
	index, name := l.index, l.name
	go runDHCP(ctx, wireClient{name, m.Hostname}, realClock{}, func(got *lease) { m.tell(ctx, index, got) },
		func(format string, args ...any) { m.Log.Printf(name+": "+format, args...) })
}

// serveHost serves DHCP on a gadget's interface as long as it has a carrier.
func (m *manager) serveHost(ctx context.Context, l *link) {
	own := m.fixed(l)[0]
	if own.Mode != Static {
		return
	}
	ctx, l.stop = context.WithCancel(ctx)
	name := l.name
	go func() {
		if err := serveDHCP(ctx, name, own.Prefix, m.Log.Printf); err != nil {
			m.Log.Print(err)
		}
	}()
}

// fixed returns the settings of IPv4 and IPv6 for an interface. A gadget has a fixed IPv4
// address in place of one from a server; with a gadget, the setting is for it alone.
func (m *manager) fixed(l *link) [2]Family {
	four := m.IPv4
	switch {
	case l.gadget && four.Mode == Auto:
		four = Family{Mode: Static, Prefix: gadgetPrefix}
	case m.Gadget && !l.gadget:
		four = Family{}
	}
	return [2]Family{four, m.IPv6}
}

// tell sends a lease to the goroutine that owns the state and waits until it is in
// effect.
func (m *manager) tell(ctx context.Context, index int, got *lease) {
	l := leaseChange{index, ctx, got, make(chan struct{})}
	select {
	case m.leases <- l:
		<-l.done
	case <-ctx.Done():
	}
}

// halt ends DHCP on an interface and removes its addresses.
func (m *manager) halt(l *link) {
	if l.stop != nil {
		l.stop()
		l.stop = nil
	}
	m.drop(l)
	m.writeResolv()
}

func (m *manager) gone(index int) {
	l, ok := m.links[index]
	if !ok {
		return
	}
	m.Log.Printf("%s: gone", l.name)
	if l.stop != nil {
		l.stop()
	}
	delete(m.links, index)
	m.writeResolv()
	m.publish()
}

func (m *manager) addrEvent(ev netlink.AddrUpdate) {
	l, ok := m.links[ev.LinkIndex]
	addr, valid := netip.AddrFromSlice(ev.LinkAddress.IP)
	if !ok || !valid {
		return
	}
	bits, _ := ev.LinkAddress.Mask.Size()
	p := netip.PrefixFrom(addr.Unmap(), bits)
	l.addrs = without(l.addrs, p)
	if ev.NewAddr {
		l.addrs = append(l.addrs, p)
		sort.Slice(l.addrs, func(i, j int) bool { return l.addrs[i].Addr().Less(l.addrs[j].Addr()) })
	}
	m.publish()
}

func without(ps []netip.Prefix, p netip.Prefix) []netip.Prefix {
	out := ps[:0]
	for _, q := range ps {
		if q != p {
			out = append(out, q)
		}
	}
	return out
}

func (m *manager) publish() {
	var states []linkState
	for _, l := range m.links {
		states = append(states, l.linkState)
	}
	m.pub.offer(encodeMeta(states))
}

// writeResolv writes the name servers of all interfaces, in the order of their indexes.
// Without name servers it does not touch the file, which others may have written.
func (m *manager) writeResolv() {
	if m.ResolvConf == "" {
		return
	}
	var all []*link
	for _, l := range m.links {
		all = append(all, l)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].index < all[j].index })
	content := resolvConf(m.DNS, all)
	if content == "" {
		return
	}
	if err := os.WriteFile(m.ResolvConf, []byte(content), 0o644); err != nil {
		m.Log.Printf("writing the name servers: %v", err)
	}
}

// resolvConf returns the content of resolv.conf; the C libraries use three servers.
func resolvConf(fixed []netip.Addr, links []*link) string {
	const most = 3
	var b strings.Builder
	servers, domain := fixed, ""
	for _, l := range links {
		if l.lease == nil {
			continue
		}
		if domain == "" && plainDomain(l.lease.Domain) {
			domain = l.lease.Domain
		}
		if len(fixed) == 0 {
			servers = append(servers, l.lease.DNS...)
		}
	}
	if len(servers) == 0 {
		return ""
	}
	if domain != "" {
		fmt.Fprintf(&b, "search %s\n", domain)
	}
	for _, a := range servers[:min(len(servers), most)] {
		fmt.Fprintf(&b, "nameserver %s\n", a)
	}
	return b.String()
}

// plainDomain reports whether a text is a plain domain name, so that a hostile server
// cannot inject lines into the file.
func plainDomain(s string) bool {
	for _, c := range s {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	return s != "" && len(s) <= 253
}

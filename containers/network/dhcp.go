package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
)

// lease is a lease from a DHCP server, in the terms of RFC 2131 section 4.4.5.
type lease struct {
	Prefix  netip.Prefix
	Gateway netip.Addr
	Routes  []route // classless static routes, RFC 3442; they replace the gateway
	DNS     []netip.Addr
	Domain  string

	got    time.Time
	renew  time.Duration // T1
	rebind time.Duration // T2
	expire time.Duration
	raw    *nclient4.Lease
}

type route struct {
	To  netip.Prefix
	Via netip.Addr
}

// newLease reads a server's answer. Addresses of zeros count as missing.
func newLease(raw *nclient4.Lease) (*lease, error) {
	ack := raw.ACK
	addr, ok := netip.AddrFromSlice(ack.YourIPAddr.To4())
	if !ok || addr.IsUnspecified() {
		return nil, errors.New("the server gave no address")
	}
	bits := 32
	if mask := ack.SubnetMask(); mask != nil {
		if bits, _ = mask.Size(); bits == 0 {
			return nil, fmt.Errorf("the server gave the netmask %s", mask)
		}
	}
	l := &lease{Prefix: netip.PrefixFrom(addr, bits), got: raw.CreationTime, raw: raw, DNS: given(ack.DNS()), Domain: optionText(ack.DomainName())}
	if r := given(ack.Router()); len(r) > 0 {
		l.Gateway = r[0]
	}
	l.addRoutes(ack.ClasslessStaticRoute())
	l.setTimes(ack)
	return l, nil
}

// given returns the addresses of an option, without those that are all zeros.
func given(ips []net.IP) (list []netip.Addr) {
	for _, ip := range ips {
		if a, ok := netip.AddrFromSlice(ip.To4()); ok && !a.IsUnspecified() {
			list = append(list, a)
		}
	}
	return list
}

// optionText removes the NUL bytes that some servers send behind a text; a client must
// accept them (RFC 2132 section 2).
func optionText(s string) string { return strings.TrimRight(s, "\x00") }

func (l *lease) addRoutes(rs []*dhcpv4.Route) {
	for _, r := range rs {
		dest, ok1 := netip.AddrFromSlice(r.Dest.IP.To4())
		via, ok2 := netip.AddrFromSlice(r.Router.To4())
		if ok1 && ok2 {
			bits, _ := r.Dest.Mask.Size()
			l.Routes = append(l.Routes, route{netip.PrefixFrom(dest, bits), via})
		}
	}
}

// usualLease is the lease time when the server gives none.
const usualLease = time.Hour

// setTimes sets the times of a lease. T1 and T2 default to 1/2 and 7/8 of the lease time
// (RFC 2131 section 4.4.5), also when the server's values are zero or out of order.
func (l *lease) setTimes(ack *dhcpv4.DHCPv4) {
	l.expire = orDefault(ack.IPAddressLeaseTime(0), usualLease)
	l.renew = orDefault(ack.IPAddressRenewalTime(0), l.expire/2)
	l.rebind = orDefault(ack.IPAddressRebindingTime(0), l.expire/8*7)
	if l.rebind >= l.expire {
		l.rebind = l.expire / 8 * 7
	}
	if l.renew >= l.rebind {
		l.renew, l.rebind = l.expire/2, l.expire/8*7
	}
}

func orDefault(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}

// phase is the state of a lease.
type phase int

const (
	bound     phase = iota // nothing to do
	renewing               // ask the server that granted it
	rebinding              // ask any server
	expired                // remove the address
)

// at returns the phase of a lease at a time, and how long to wait: until the next phase,
// or half of that time before another try, but at least a minute (RFC 2131 section
// 4.4.5) unless the phase ends first.
func (l *lease) at(now time.Time) (phase, time.Duration) {
	age := now.Sub(l.got)
	until := func(end time.Duration) time.Duration {
		rest := end - age
		return min(max(rest/2, time.Minute), rest)
	}
	switch {
	case age >= l.expire:
		return expired, 0
	case age >= l.rebind:
		return rebinding, until(l.expire)
	case age >= l.renew:
		return renewing, until(l.rebind)
	}
	return bound, l.renew - age
}

// A dhcpClient talks to the DHCP servers of one interface.
type dhcpClient interface {
	request(ctx context.Context) (*lease, error)
	extend(ctx context.Context, l *lease, how phase) (*lease, error)
}

// wireClient is a dhcpClient that uses packet sockets.
type wireClient struct {
	ifname   string
	hostname string // "" for none
}

// named adds the device's name to a request (RFC 2132, section 3.14).
func (w wireClient) named(m *dhcpv4.DHCPv4) {
	if w.hostname != "" {
		m.UpdateOption(dhcpv4.OptHostName(w.hostname))
	}
}

var _ dhcpClient = wireClient{}

// request finds a server and gets a lease.
func (w wireClient) request(ctx context.Context) (*lease, error) {
	c, err := nclient4.New(w.ifname)
	if err != nil {
		return nil, fmt.Errorf("opening a DHCP socket: %w", err)
	}
	defer c.Close()
	raw, err := c.Request(ctx, dhcpv4.WithRequestedOptions(dhcpv4.OptionClasslessStaticRoute), w.named)
	if err != nil {
		return nil, fmt.Errorf("requesting an address: %w", err)
	}
	return newLease(raw)
}

// extend requests the extension of a lease: from its server by unicast when renewing,
// from any server by broadcast when rebinding. The error of a refusal is
// *nclient4.ErrNak.
func (w wireClient) extend(ctx context.Context, l *lease, how phase) (*lease, error) {
	var opts []nclient4.ClientOpt
	if how == renewing {
		opts = []nclient4.ClientOpt{
			nclient4.WithUnicast(&net.UDPAddr{IP: l.Prefix.Addr().AsSlice(), Port: nclient4.ClientPort}),
			nclient4.WithServerAddr(&net.UDPAddr{IP: l.raw.ACK.ServerIdentifier(), Port: nclient4.ServerPort}),
		}
	}
	c, err := nclient4.New(w.ifname, opts...)
	if err != nil {
		return nil, fmt.Errorf("opening a DHCP socket: %w", err)
	}
	defer c.Close()
	if how == renewing {
		raw, err := c.Renew(ctx, l.raw, w.named)
		if err != nil {
			return nil, fmt.Errorf("renewing %s: %w", l.Prefix, err)
		}
		return newLease(raw)
	}
	return w.rebind(ctx, c, l)
}

func (w wireClient) rebind(ctx context.Context, c *nclient4.Client, l *lease) (*lease, error) {
	req, err := dhcpv4.NewRenewFromAck(l.raw.ACK, w.named)
	if err != nil {
		return nil, fmt.Errorf("making the request: %w", err)
	}
	isAnswer := nclient4.IsMessageType(dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak)
	ack, err := c.SendAndRead(ctx, c.RemoteAddr(), req, isAnswer)
	if err != nil {
		return nil, fmt.Errorf("rebinding %s: %w", l.Prefix, err)
	}
	if ack.MessageType() == dhcpv4.MessageTypeNak {
		return nil, &nclient4.ErrNak{Offer: l.raw.Offer, Nak: ack}
	}
	return newLease(&nclient4.Lease{Offer: ack, ACK: ack, CreationTime: time.Now()})
}

// runDHCP gets and extends leases for an interface until ctx ends. It calls have with
// every new or extended lease and have(nil) when a lease is lost.
func runDHCP(ctx context.Context, c dhcpClient, clock clock, have func(*lease), logf func(string, ...any)) {
	wait := time.Second
	for ctx.Err() == nil {
		l, err := c.request(ctx)
		if err != nil {
			if ctx.Err() == nil {
				logf("no address yet: %v", err)
				clock.sleep(ctx, wait)
				wait = min(2*wait, time.Minute)
			}
			continue
		}
		wait = time.Second
		have(l)
		keepLease(ctx, c, clock, l, have, logf)
		if ctx.Err() == nil {
			have(nil)
		}
	}
}

// keepLease extends a lease until it expires, is refused or ctx ends.
func keepLease(ctx context.Context, c dhcpClient, clock clock, l *lease, have func(*lease), logf func(string, ...any)) {
	for ctx.Err() == nil {
		how, again := l.at(clock.now())
		if how == expired {
			logf("lease of %s expired", l.Prefix)
			return
		}
		if how != bound {
			longer, err := c.extend(ctx, l, how)
			var nak *nclient4.ErrNak
			switch {
			case err == nil:
				l = longer
				have(l)
				continue
			case errors.As(err, &nak):
				logf("the server refuses to extend %s", l.Prefix)
				return
			}
			logf("lease not extended yet: %v", err)
			_, again = l.at(clock.now())
		}
		clock.sleep(ctx, again)
	}
}

// clock provides the time; tests replace it so that they do not wait.
type clock interface {
	now() time.Time
	sleep(context.Context, time.Duration)
}

type realClock struct{}

func (realClock) now() time.Time { return time.Now() }

func (realClock) sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

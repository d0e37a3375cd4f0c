package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
)

// gadgetPrefix is the device's address on a USB gadget if none is given. The host gets the
// next one.
var gadgetPrefix = netip.MustParsePrefix("192.168.7.1/24")

// hostLease is how long the host may keep its address.
const hostLease = time.Hour

// hostAddr returns the address for the host: the one behind the device's, or before it at
// the end of the prefix; ok is false for a prefix without room for both.
func hostAddr(own netip.Prefix) (a netip.Addr, ok bool) {
	for _, a := range []netip.Addr{own.Addr().Next(), own.Addr().Prev()} {
		last := !own.Contains(a.Next())
		if own.Contains(a) && a != own.Masked().Addr() && !last {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// serveDHCP gives the one host at the other end of a USB cable its address (RFC 2131),
// until ctx ends. It names neither a router nor name servers: the host keeps its own.
func serveDHCP(ctx context.Context, ifname string, own netip.Prefix, logf func(string, ...any)) error {
	host, ok := hostAddr(own)
	if !ok {
		return fmt.Errorf("serving DHCP: %s has no address for the host", own)
	}
	handle := func(conn net.PacketConn, peer net.Addr, m *dhcpv4.DHCPv4) {
		reply, err := answer(m, own, host)
		if err != nil || reply == nil {
			return // not for us
		}
		if _, err := conn.WriteTo(reply.ToBytes(), destination(m, peer)); err != nil {
			logf("%s: answering by DHCP: %v", ifname, err)
			return
		}
		if reply.MessageType() == dhcpv4.MessageTypeAck {
			logf("%s: the host %s has %s", ifname, m.ClientHWAddr, host)
		}
	}
	s, err := server4.NewServer(ifname, &net.UDPAddr{IP: net.IPv4zero, Port: dhcpv4.ServerPort}, handle)
	if err != nil {
		return fmt.Errorf("serving DHCP on %s: %w", ifname, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(); err != nil && ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("serving DHCP on %s: %w", ifname, err)
	}
	return nil
}

// destination is where an answer goes: to a host without an address by broadcast.
func destination(m *dhcpv4.DHCPv4, peer net.Addr) net.Addr {
	if m.ClientIPAddr.IsUnspecified() {
		return &net.UDPAddr{IP: net.IPv4bcast, Port: dhcpv4.ClientPort}
	}
	return peer
}

// answer returns the answer to a message, nil for none (RFC 2131 section 4.3).
func answer(m *dhcpv4.DHCPv4, own netip.Prefix, host netip.Addr) (*dhcpv4.DHCPv4, error) {
	self := net.IP(own.Addr().AsSlice())
	if id := m.ServerIdentifier(); m.OpCode != dhcpv4.OpcodeBootRequest || id != nil && !id.Equal(self) {
		return nil, nil
	}
	var typ dhcpv4.MessageType
	switch m.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		typ = dhcpv4.MessageTypeOffer
	case dhcpv4.MessageTypeRequest:
		typ = dhcpv4.MessageTypeAck
		asked := m.RequestedIPAddress()
		if asked == nil {
			asked = m.ClientIPAddr
		}
		if !asked.Equal(host.AsSlice()) {
			return dhcpv4.NewReplyFromRequest(m, dhcpv4.WithMessageType(dhcpv4.MessageTypeNak), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(self)))
		}
	default:
		return nil, nil
	}
	return dhcpv4.NewReplyFromRequest(m, dhcpv4.WithMessageType(typ), dhcpv4.WithYourIP(host.AsSlice()), dhcpv4.WithServerIP(self),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(self)), dhcpv4.WithNetmask(net.CIDRMask(own.Bits(), 32)), dhcpv4.WithLeaseTime(uint32(hostLease/time.Second)))
}

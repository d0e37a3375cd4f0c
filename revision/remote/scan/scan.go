// Package scan finds Pantavisor devices on the local network by DNS service
// discovery over multicast DNS (RFC 6762, RFC 6763; manual: pvr device scan).
//
// A device announces its SSH service; the TXT record identifies it:
//
//	device-id=ID         the device's ID at its hub; without it the host is none of ours
//	challenge=WORDS      what claims the device; empty or absent when it has an owner
//	pantahub=URL         address of the hub's API
//
// Any host on the network can announce anything, and users paste what is shown into a
// shell. Therefore only announcements in the exact form of devices are accepted.
package scan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/pion/logging"
	"github.com/pion/mdns/v2"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// serviceName is the DNS-SD type that devices announce.
const serviceName = "_ssh._tcp"

// maxDevices bounds the memory that a hostile network can make a scan use.
const maxDevices = 4096

// Device is a device that announced itself.
type Device struct {
	ID        string       `json:"id"`
	Challenge string       `json:"challenge,omitempty"` // empty when it has an owner
	Hub       string       `json:"pantahub"`            // address of its hub's API, without a slash at the end; may be empty
	Host      string       `json:"host"`                // name with a dot at the end
	IPv4      []netip.Addr `json:"ipv4"`                // in order of their values
	IPv6      []netip.Addr `json:"ipv6"`
	Port      uint16       `json:"port"` // of SSH
}

// Owned reports whether the device has an owner.
func (d Device) Owned() bool { return d.Challenge == "" }

// Options control a scan.
type Options struct {
	// Interfaces are the network interfaces; none means all that are up except
	// the loopback.
	Interfaces []net.Interface
	// Found is called with a device whenever something new is known about it; may be
	// nil. Calls are sequential and must not block.
	Found func(Device)
}

// Devices looks for devices until the context ends and returns them sorted by ID. The
// end of the context is not an error. It asks once a second, so that it also finds
// devices that start in the meantime or whose answer was lost.
func Devices(ctx context.Context, opt Options) ([]Device, error) {
	v4, v6, err := listen()
	if err != nil {
		return nil, fmt.Errorf("listening for multicast DNS: %w", err)
	}
	conn, err := mdns.NewServer(v4, v6, opt.server()...)
	if err != nil {
		closeAll(v4, v6)
		return nil, fmt.Errorf("listening for multicast DNS: %w", err)
	}
	s := &seen{devices: map[string]*Device{}, found: opt.Found}
	conn.OnServiceDiscovered(s.take)
	if err := conn.Browse(ctx, serviceName); err != nil {
		return nil, errors.Join(fmt.Errorf("asking for devices: %w", err), conn.Close())
	}
	<-ctx.Done()
	if err := conn.Close(); err != nil {
		return nil, fmt.Errorf("ending the search for devices: %w", err)
	}
	return s.list(), nil
}

// server returns the library's options, with its log output discarded.
func (o Options) server() []mdns.ServerOption {
	quiet := &logging.DefaultLoggerFactory{Writer: io.Discard, DefaultLogLevel: logging.LogLevelDisabled}
	out := []mdns.ServerOption{mdns.WithLoggerFactory(quiet)}
	if len(o.Interfaces) > 0 {
		out = append(out, mdns.WithInterfaces(o.Interfaces...))
	}
	return out
}

// listen opens the multicast DNS port for both address families; one is enough.
func listen() (v4 *ipv4.PacketConn, v6 *ipv6.PacketConn, err error) {
	c4, err4 := multicast("udp4", mdns.DefaultAddressIPv4)
	if err4 == nil {
		v4 = ipv4.NewPacketConn(c4)
	}
	c6, err6 := multicast("udp6", mdns.DefaultAddressIPv6)
	if err6 == nil {
		v6 = ipv6.NewPacketConn(c6)
	}
	if err4 != nil && err6 != nil {
		return nil, nil, errors.Join(err4, err6)
	}
	return v4, v6, nil
}

func multicast(network, address string) (*net.UDPConn, error) {
	addr, err := net.ResolveUDPAddr(network, address)
	if err != nil {
		return nil, err
	}
	return net.ListenUDP(network, addr)
}

func closeAll(v4 *ipv4.PacketConn, v6 *ipv6.PacketConn) {
	if v4 != nil {
		_ = v4.Close()
	}
	if v6 != nil {
		_ = v6.Close()
	}
}

// seen collects announcements.
type seen struct {
	mu      sync.Mutex
	devices map[string]*Device
	found   func(Device)
}

// take records one announcement; each address of a device has its own.
func (s *seen) take(e mdns.ServiceEvent) {
	if !strings.EqualFold(e.Instance.Service, serviceName) {
		return
	}
	d, ok := parse(e.Instance)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.devices[d.ID]
	if known == nil && len(s.devices) >= maxDevices {
		return
	}
	if known != nil {
		d.IPv4, d.IPv6 = known.IPv4, known.IPv6
	}
	d.add(e.Addr)
	s.devices[d.ID] = &d
	if s.found != nil {
		s.found(d.clone())
	}
}

func (s *seen) list() []Device {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []Device{}
	for _, d := range s.devices {
		out = append(out, d.clone())
	}
	slices.SortFunc(out, func(a, b Device) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// maxAddrs bounds the addresses of one device, of each family.
const maxAddrs = 64

// add records an address. It drops the zone of a link-local one, which only means
// something on this machine.
func (d *Device) add(a netip.Addr) {
	a = a.Unmap().WithZone("")
	list := &d.IPv6
	if a.Is4() {
		list = &d.IPv4
	}
	at, known := slices.BinarySearchFunc(*list, a, netip.Addr.Compare)
	if !known && a.IsValid() && len(*list) < maxAddrs {
		*list = slices.Insert(*list, at, a)
	}
}

// clone returns a copy with lists of its own that are not nil.
func (d Device) clone() Device {
	d.IPv4, d.IPv6 = append([]netip.Addr{}, d.IPv4...), append([]netip.Addr{}, d.IPv6...)
	return d
}

// Compiled when a scan needs them, because otherwise every command would pay for them.
var (
	idForm        = compiled(`^[0-9A-Za-z]{1,64}$`)
	challengeForm = compiled(`^[0-9A-Za-z_-]{0,128}$`)
	hostForm      = compiled(`^[0-9A-Za-z._-]{1,255}$`)
	hubForm       = compiled(`^https?://[0-9A-Za-z.\[\]:-]+(/[0-9A-Za-z._/-]*)?$`)
)

func compiled(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}

// parse reads an announcement; it returns false when it is not from a device.
func parse(in mdns.ServiceInstance) (Device, bool) {
	d := Device{Host: in.Host, Port: in.Port}
	hub := ""
	for key, to := range map[string]*string{"device-id": &d.ID, "challenge": &d.Challenge, "pantahub": &hub} {
		*to = attribute(in.Text, key)
	}
	d.Hub = strings.TrimRight(hub, "/")
	ok := idForm().MatchString(d.ID) && challengeForm().MatchString(d.Challenge) && hostForm().MatchString(d.Host) &&
		(d.Hub == "" || hubForm().MatchString(d.Hub) && isURL(d.Hub))
	return d, ok
}

func isURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Hostname() != ""
}

// attribute returns a TXT record's value: names have no case and the first counts
// (RFC 6763 §6.4).
func attribute(list []mdns.TXTEntry, key string) string {
	for _, e := range list {
		if strings.EqualFold(e.Key, key) {
			return string(e.Value)
		}
	}
	return ""
}

package network

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pantavisor/pantavisor/formats/personal"
	"github.com/pantavisor/pantavisor/internal/bounded"
)

// Mode is the way an address family gets its addresses.
type Mode int

// The modes. Auto is DHCP for IPv4 and router advertisements for IPv6.
const (
	Auto Mode = iota
	Off
	Static
)

// Family is the setting of one address family.
type Family struct {
	Mode    Mode
	Prefix  netip.Prefix // Static: address and length
	Gateway netip.Addr   // Static: default router; the zero value is none
}

// Options are the pvnet_ parameters of the kernel command line (manual: Network
// Platforms). The zero value is the default: Ethernet, DHCP, router advertisements.
//
//	pvnet_type      ethernet, or gadget: the USB device port is an Ethernet adapter of the
//	                host, too; wifi is not supported
//	pvnet_ipv4      off | dhcp | address/netmask/gateway; the mask may be a length
//	pvnet_address   alias of pvnet_ipv4
//	pvnet_ipv6      off | auto | address/length/gateway
//	pvnet_dns       comma-separated name servers; default: those of DHCP
//	pvnet_ifname    name of the one interface to use; default: every Ethernet interface
//	pvnet_ssid, pvnet_pass, pvnet_security   Wi-Fi; not supported by this container
type Options struct {
	// Hostname is the name that the device tells DHCP servers; "" for none.
	Hostname string
	// Gadget sets up Ethernet at the USB device port. Its interface has the fixed address
	// of IPv4, or else 192.168.7.1/24, and a DHCP server for the host.
	Gadget     bool
	IPv4, IPv6 Family
	DNS        []netip.Addr
	Interface  string
}

// ParseCmdline reads the pvnet_ parameters. It skips a parameter that is not valid and
// returns a problem that names it; the network comes up with the others.
func ParseCmdline(line string) (Options, []error) {
	var o Options
	var problems []error
	for _, word := range strings.Fields(line) {
		name, value, ok := strings.Cut(word, "=")
		if !ok || !strings.HasPrefix(name, prefix) {
			continue
		}
		problems = append(problems, o.take(name, value)...)
	}
	return o, problems
}

// prefix is that of the parameters.
const prefix = "pvnet_"

// take sets one parameter, or returns what is wrong with it.
func (o *Options) take(name, value string) []error {
	if err := o.set(name, value); err != nil {
		return []error{fmt.Errorf("%s=%s: %w", name, shown(name, value), err)}
	}
	return nil
}

// maxMeta bounds a value of metadata, in bytes; no parameter needs as much.
const maxMeta = 4096

// Metadata takes the parameters that the container's user metadata has, a file each, over those
// of the command line; the key hostname is the device's name. As ParseCmdline, it skips what is
// not valid. A directory that is not there has none.
func (o *Options) Metadata(dir string) []error {
	files, err := os.ReadDir(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return []error{fmt.Errorf("reading user metadata: %w", err)}
	}
	var problems []error
	for _, f := range files {
		name := f.Name()
		if name != hostnameKey && !strings.HasPrefix(name, prefix) {
			continue
		}
		data, err := bounded.ReadRegular(filepath.Join(dir, name), maxMeta)
		if err != nil {
			problems = append(problems, fmt.Errorf("reading user metadata %s: %w", name, err))
			continue
		}
		problems = append(problems, o.take(name, strings.TrimSpace(string(data)))...)
	}
	return problems
}

// hostnameKey is the key of user metadata with the device's name.
const hostnameKey = "hostname"

// shown returns the value for messages; it hides the Wi-Fi password.
func shown(name, value string) string {
	if name == "pvnet_pass" {
		return "********"
	}
	return value
}

func (o *Options) set(name, value string) (err error) {
	switch name {
	case "pvnet_type":
		o.Gadget = value == "gadget"
		return checkType(value)
	case "pvnet_ipv4", "pvnet_address":
		return o.IPv4.set(value, "dhcp", netip.Addr.Is4)
	case "pvnet_ipv6":
		return o.IPv6.set(value, "auto", netip.Addr.Is6)
	case "pvnet_dns":
		o.DNS, err = parseAddrs(value)
		return err
	case "pvnet_ifname":
		return o.setInterface(value)
	case hostnameKey:
		err = personal.CheckHostname(value)
		if err == nil {
			o.Hostname = value
		}
		return err
	case "pvnet_ssid", "pvnet_pass", "pvnet_security":
		return fmt.Errorf("this container does not support Wi-Fi")
	}
	return fmt.Errorf("unknown; use pvnet_type, pvnet_ipv4, pvnet_ipv6, pvnet_dns or pvnet_ifname")
}

func checkType(value string) error {
	switch value {
	case "ethernet", "gadget", "":
		return nil
	case "wifi":
		return fmt.Errorf("this container does not support Wi-Fi; using Ethernet")
	}
	return fmt.Errorf("must be ethernet or gadget")
}

func (o *Options) setInterface(value string) error {
	const maxName = 15 // IFNAMSIZ with its NUL
	if value == "" || len(value) > maxName || strings.ContainsAny(value, "/ \t") {
		return fmt.Errorf("not a valid interface name")
	}
	o.Interface = value
	return nil
}

// set reads "off", the automatic word or address/mask[/gateway].
func (f *Family) set(value, auto string, family func(netip.Addr) bool) error {
	switch value {
	case auto, "":
		*f = Family{Mode: Auto}
		return nil
	case "off":
		*f = Family{Mode: Off}
		return nil
	}
	got, err := parseStatic(value, family)
	if err != nil {
		return fmt.Errorf("must be off, %s or address/mask/gateway: %w", auto, err)
	}
	*f = got
	return nil
}

func parseStatic(value string, family func(netip.Addr) bool) (Family, error) {
	parts := strings.Split(value, "/")
	if len(parts) < 2 || len(parts) > 3 {
		return Family{}, fmt.Errorf("%d fields", len(parts))
	}
	addr, err := netip.ParseAddr(parts[0])
	if err != nil || !family(addr) {
		return Family{}, fmt.Errorf("%q is not an address of this family", parts[0])
	}
	bits, err := parseMask(parts[1], addr.BitLen())
	if err != nil {
		return Family{}, err
	}
	f := Family{Mode: Static, Prefix: netip.PrefixFrom(addr, bits)}
	if len(parts) == 3 && parts[2] != "" {
		if f.Gateway, err = netip.ParseAddr(parts[2]); err != nil || !family(f.Gateway) {
			return Family{}, fmt.Errorf("%q is not a gateway address", parts[2])
		}
	}
	return f, nil
}

// parseMask reads a prefix length or a dotted netmask.
func parseMask(s string, most int) (int, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n < 0 || n > most {
			return 0, fmt.Errorf("prefix length %d is not from 0 to %d", n, most)
		}
		return n, nil
	}
	addr, err := netip.ParseAddr(s)
	if err != nil || !addr.Is4() || most != 32 {
		return 0, fmt.Errorf("%q is neither a prefix length nor a netmask", s)
	}
	bits := 0
	gap := false
	for _, b := range addr.As4() {
		for i := 7; i >= 0; i-- {
			one := b>>i&1 == 1
			if one && gap {
				return 0, fmt.Errorf("netmask %s is not contiguous", s)
			}
			if one {
				bits++
			}
			gap = gap || !one
		}
	}
	return bits, nil
}

func parseAddrs(list string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, s := range strings.Split(list, ",") {
		if s == "" {
			continue
		}
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("%q is not an address", s)
		}
		out = append(out, a)
	}
	return out, nil
}

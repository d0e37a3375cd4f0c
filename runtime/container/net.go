package container

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/network"
)

// interfaces returns the interfaces of the keys lxc.net.N.*, in the order of N. Open
// digits of a hardware address follow from seed, so they stay the same for a container.
func (c *Config) interfaces(seed string) (list []network.Interface, notes []Note, err error) {
	var errs []error
	for _, n := range c.Nets {
		prefix := "lxc.net." + strconv.Itoa(n.Index)
		switch n.Type {
		case "none", "empty", "":
			continue
		case "veth", "macvlan", "phys":
		default:
			errs = append(errs, fmt.Errorf("%s.type: %q is not supported; expected none, empty, veth, macvlan or phys", prefix, clip(n.Type)))
			continue
		}
		i := network.Interface{Kind: n.Type, Name: "eth" + strconv.Itoa(n.Index)}
		if n.Type == "phys" {
			i.Name = ""
		}
		for _, s := range n.Settings {
			set, ok := find(netKeys, s.Key)
			if !ok {
				notes = append(notes, Note{prefix + "." + s.Key, "unknown key, ignored"})
				continue
			}
			if err := set(&i, s.Value, seed+prefix); err != nil {
				errs = append(errs, fmt.Errorf("%s.%s: %w", prefix, s.Key, err))
			}
		}
		if i.Link == "" && i.Kind != "veth" {
			errs = append(errs, fmt.Errorf("%s.link is missing", prefix))
		}
		if i.Name == "" {
			i.Name = i.Link
		}
		list = append(list, i)
	}
	return list, notes, errors.Join(errs...)
}

// netKeys are the keys of an interface. An empty value has no effect.
var netKeys = []word[func(i *network.Interface, v, seed string) error]{
	{"link", func(i *network.Interface, v, _ string) error { return setName(&i.Link, v) }},
	{"name", func(i *network.Interface, v, _ string) error { return setName(&i.Name, v) }},
	{"veth.pair", func(i *network.Interface, v, _ string) error { return setName(&i.Pair, v) }},
	{"veth.mode", setVethMode},
	{"macvlan.mode", setMacvlanMode},
	{"mtu", setMTU},
	{"hwaddr", func(i *network.Interface, v, seed string) (err error) {
		if v != "" {
			i.MAC, err = network.ParseMAC(v, seed)
		}
		return err
	}},
	{"flags", func(i *network.Interface, v, _ string) error {
		if v != "up" && v != "" {
			return fmt.Errorf("%q is not a flag; there is only up", clip(v))
		}
		i.Up = v == "up"
		return nil
	}},
	{"ipv4.address", func(i *network.Interface, v, _ string) error { return addPrefix(i, v, true) }},
	{"ipv6.address", func(i *network.Interface, v, _ string) error { return addPrefix(i, v, false) }},
	{"ipv4.gateway", func(i *network.Interface, v, _ string) error { return addGateway(i, v, true) }},
	{"ipv6.gateway", func(i *network.Interface, v, _ string) error { return addGateway(i, v, false) }},
}

func setName(dst *string, v string) error {
	if *dst = v; v == "" {
		return nil
	}
	return network.CheckName(v)
}

func setVethMode(_ *network.Interface, v, _ string) error {
	if v != "bridge" && v != "" {
		return fmt.Errorf("%q is not supported, only bridge is", clip(v))
	}
	return nil
}

func setMacvlanMode(i *network.Interface, v, _ string) error {
	switch i.Mode = v; v {
	case "", "private", "vepa", "bridge", "passthru":
		return nil
	}
	return fmt.Errorf("%q is not a macvlan mode; expected private, vepa, bridge or passthru", clip(v))
}

func setMTU(i *network.Interface, v, _ string) error {
	if v == "" {
		return nil
	}
	n, err := strconv.ParseUint(v, 10, 16)
	if err != nil || n < 68 {
		return fmt.Errorf("%q is not a packet size from 68 to 65535", clip(v))
	}
	i.MTU = int(n)
	return nil
}

// addPrefix takes ADDRESS/LENGTH. An IPv4 broadcast address after it is ignored, because
// it follows from the prefix.
func addPrefix(i *network.Interface, v string, four bool) error {
	first, _, _ := strings.Cut(v, " ")
	if first == "" {
		return nil
	}
	if !strings.Contains(first, "/") { // LXC's default lengths
		first += map[bool]string{true: "/24", false: "/64"}[four]
	}
	p, err := netip.ParsePrefix(first)
	if err != nil || p.Addr().Is4() != four {
		return fmt.Errorf("%q is not an address such as 10.0.3.2/24 or fd00::2/64", clip(v))
	}
	i.Addresses = append(i.Addresses, p)
	return nil
}

func addGateway(i *network.Interface, v string, four bool) error {
	if v == "" {
		return nil
	}
	if v == "auto" {
		i.AutoGateway4, i.AutoGateway6 = i.AutoGateway4 || four, i.AutoGateway6 || !four
		return nil
	}
	a, err := netip.ParseAddr(v)
	if err != nil || a.Is4() != four {
		return fmt.Errorf("%q is not an address of this family", clip(v))
	}
	i.Gateways = append(i.Gateways, a)
	return nil
}

// Addresses returns the addresses that the configuration gives to the container's
// interfaces.
func (c *Config) Addresses() (all []netip.Addr) {
	list, _, _ := c.interfaces("")
	for _, i := range list {
		for _, p := range i.Addresses {
			all = append(all, p.Addr())
		}
	}
	return all
}

// PoolMember connects a container to an address pool.
type PoolMember struct {
	Pool string
	network.Member
}

// connect makes the container's interfaces, now that its first process has the
// namespace they go to.
func (st *starting) connect(pid int) (err error) {
	if !st.Config.ownNet() {
		return nil
	}
	list, _, err := st.Config.interfaces(st.Name)
	if err != nil {
		return err
	}
	if len(list) == 0 && st.Pool == nil {
		return nil
	}
	if st.Network == nil {
		return errors.New("making its network: this runtime has no network support")
	}
	if st.Pool != nil {
		st.attached, err = st.Network.AttachPool(st.Pool.Pool, st.Pool.Member, pid)
	} else {
		st.attached, err = st.Network.Attach(st.Name, pid, list)
	}
	if err == nil {
		st.plan.Links = st.attached.Interfaces
	}
	return err
}

// JoinPool gives the container a network of its own for an address pool. It returns an
// error when the configuration has interfaces, too.
func (c *Config) JoinPool() error {
	for _, n := range c.Nets {
		if n.Type != "" && n.Type != "empty" {
			return fmt.Errorf("lxc.net.%d.type is %s, but run.json connects the container to an address pool; remove one of them", n.Index, n.Type)
		}
	}
	c.Namespaces |= unix.CLONE_NEWNET
	c.Nets = nil
	return nil
}

// ShareNetwork gives the container the device's network.
func (c *Config) ShareNetwork() {
	c.Namespaces &^= unix.CLONE_NEWNET
	c.Nets = nil
}

package device

import (
	"fmt"
	"net/netip"
	"path/filepath"

	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/container"
	"github.com/pantavisor/pantavisor/runtime/logs"
	"github.com/pantavisor/pantavisor/runtime/network"
)

// openNetwork prepares the network of containers. When that fails, the start of the
// containers that need it fails with the reason.
func (s *session) openNetwork(h *host, sys *manifest.System) {
	shared := s.cfg.Enum(config.SystemInitMode) == "appengine" // the network is the host system's
	leases := ""
	if shared {
		leases = "/run/pantavisor/leases"
	}
	n, err := network.New(network.Options{
		ID: s.paths.run, Leases: leases, Bridge: s.cfg.String(config.NetBrDev), Address: bridgeAddress(s.cfg, s.log), Clean: shared,
		Load: func(module string) error { return s.drivers.Modules.Insert(module, "") }, Warn: s.log.Named("network").Warnf,
	})
	if err != nil {
		s.log.Warnf("%v", err)
		return
	}
	s.launcher.Network = n
	h.addPools(h.planPools(sys))
	if !s.opt.Hosted {
		if err := network.Configure(nil); err != nil { // lo, before a container uses 127.0.0.1
			s.log.Warnf("%v", err)
		}
	}
	if shared {
		return // the bridge is made when a container needs it
	}
	go func() {
		if err := n.OpenBridge(); err != nil {
			s.log.Debugf("%v", err) // the kernel may lack bridges
		}
	}()
}

// bridgeAddress returns the default bridge's address, the zero Prefix when the setting is
// not an address.
func bridgeAddress(c *config.Config, log logs.Logger) netip.Prefix {
	a, err := netip.ParseAddr(c.String(config.NetBrAddress4))
	bits, ok := maskBits(c.String(config.NetBrMask4))
	if err != nil || !a.Is4() || !ok {
		log.Warnf("PV_NET_BRADDRESS4 %q with PV_NET_BRMASK4 %q is not an address; the bridge gets none",
			c.String(config.NetBrAddress4), c.String(config.NetBrMask4))
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, bits)
}

// maskBits returns the length of a netmask: 24 for 255.255.255.0.
func maskBits(text string) (int, bool) {
	a, err := netip.ParseAddr(text)
	if err != nil || !a.Is4() {
		return 0, false
	}
	all := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	for bits := range 33 {
		if netip.PrefixFrom(all, bits).Masked().Addr() == a {
			return bits, true
		}
	}
	return 0, false
}

// poolPlan is an address pool of device.json, with the containers that use it and the
// addresses that other containers configure themselves.
type poolPlan struct {
	network.Pool
	members  []network.Member
	reserved []netip.Addr
}

// addPools adds the pools.
func (h *host) addPools(list []poolPlan) {
	for _, p := range list {
		if h.launcher.Network == nil {
			return
		}
		if err := h.launcher.Network.AddPool(p.Pool, p.members, p.reserved); err != nil {
			h.log.Warnf("device.json: network: %v", err)
		}
	}
}

// planPools returns the address pools of a state.
func (h *host) planPools(sys *manifest.System) (list []poolPlan) {
	for _, p := range sys.Pools {
		subnet, err := netip.ParsePrefix(p.Subnet)
		gateway, gerr := netip.ParseAddr(p.Gateway)
		if err == nil {
			err = gerr
		}
		var members []network.Member
		for i := range sys.Containers {
			if m, ok := member(&sys.Containers[i]); ok && m.Pool == p.Name {
				members = append(members, m.Member)
			}
		}
		np := network.Pool{Name: p.Name, Bridge: p.Bridge, Subnet: subnet, Gateway: gateway, NAT: p.NAT}
		if p.Type == "macvlan" {
			np.Bridge, np.Parent = "", p.Parent
		}
		if err != nil {
			h.log.Warnf("device.json: network: %v", err)
			continue
		}
		list = append(list, poolPlan{np, members, h.reserved(sys, subnet)})
	}
	return list
}

// reserved returns the addresses of a range that containers have by their own
// configuration.
func (h *host) reserved(sys *manifest.System, subnet netip.Prefix) (list []netip.Addr) {
	for _, c := range sys.Containers {
		if c.Config == "" {
			continue
		}
		cfg, _, err := container.ParseFile(filepath.Join(h.rev.trail, c.Name, c.Config))
		if err != nil {
			continue // its start fails with the error
		}
		for _, a := range cfg.Addresses() {
			if subnet.Contains(a) {
				list = append(list, a)
			}
		}
	}
	return list
}

// member returns a container as a member of its pool; false when it uses none.
func member(c *manifest.Container) (container.PoolMember, bool) {
	if c.Network == nil || c.Network.Mode != "pool" {
		return container.PoolMember{}, false
	}
	m := container.PoolMember{Pool: c.Network.Pool, Member: network.Member{Container: c.Name}}
	m.Address, _ = netip.ParseAddr(c.Network.IP)
	m.MAC, _ = network.ParseMAC(c.Network.MAC, c.Name)
	return m, true
}

// joinNetwork applies the network settings of run.json to a container's configuration.
func joinNetwork(c *manifest.Container, cfg *container.Config) error {
	if c.Network == nil {
		return nil
	}
	if c.Network.MAC != "" {
		if _, err := network.ParseMAC(c.Network.MAC, ""); err != nil {
			return fmt.Errorf("run.json: network.mac: %w", err)
		}
	}
	switch c.Network.Mode {
	case "pool":
		return cfg.JoinPool()
	case "host":
		cfg.ShareNetwork()
	}
	return nil
}

// connectTo adds the container's network to its start.
func connectTo(s *container.Start, c *manifest.Container) {
	if c.Network == nil {
		return
	}
	s.Hostname = c.Network.Hostname
	if m, ok := member(c); ok {
		s.Pool = &m
	}
}

// closeNetwork removes the network of the containers.
func (s *session) closeNetwork() {
	if s.launcher.Network == nil {
		return
	}
	if err := s.launcher.Network.Close(); err != nil {
		s.log.Warnf("%v", err)
	}
}

package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/filelock"
)

// Pool is a range of addresses for containers on a bridge, or in the network of an
// interface of the device.
type Pool struct {
	Name    string
	Bridge  string // "" with Parent
	Parent  string // interface for macvlan; its network has the gateway and no NAT is needed
	Subnet  netip.Prefix
	Gateway netip.Addr // the bridge's address
	NAT     bool       // packets to the outside get the host's address
}

// Member is a container that gets an address of a pool.
type Member struct {
	Container string
	// Address is the address that it asks for; invalid for any.
	Address netip.Addr
	// MAC is its hardware address; an empty one is derived from its address.
	MAC []byte
}

// link returns the interface that the containers are connected to.
func (p Pool) link() string {
	if p.Parent != "" {
		return p.Parent
	}
	return p.Bridge
}

// pool is a pool with the addresses in use.
type pool struct {
	Pool
	next  netip.Addr
	given map[string]netip.Addr // by container, for as long as the runtime runs
	nat   bool                  // the rule for translation is set
}

// AddPool adds a pool. Reserved addresses are not used. Members that ask for an address
// get it before the other members get theirs. When there is already a pool that is the same
// but for its members, those that are in both keep their addresses: they may be running.
func (h *Host) AddPool(p Pool, members []Member, reserved []netip.Addr) error {
	if err := CheckName(p.link()); err != nil {
		return fmt.Errorf("pool %s: %w", p.Name, err)
	}
	if !p.Subnet.IsValid() || !p.Subnet.Addr().Is4() || !p.Subnet.Contains(p.Gateway) {
		return fmt.Errorf("pool %s: the gateway %s is not an address of the IPv4 range %s", p.Name, p.Gateway, p.Subnet)
	}
	q := &pool{Pool: p, next: p.Gateway.Next(), given: map[string]netip.Addr{}}
	for i, r := range reserved {
		q.given[fmt.Sprintf("\x00reserved %d", i)] = r
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	q.inherit(h.pools[p.Name], members)
	for _, m := range members {
		if m.Address.IsValid() {
			q.given[m.Container] = m.Address
		}
	}
	// The others in a fixed order: the same state gives the same addresses.
	for _, m := range members {
		if _, ok := q.given[m.Container]; !ok {
			if a, err := q.free(); err == nil {
				q.given[m.Container] = a
			}
		}
	}
	h.pools[p.Name] = q
	return nil
}

// inherit takes over what is in use of an earlier pool with other members.
func (q *pool) inherit(old *pool, members []Member) {
	if old == nil || old.Pool != q.Pool {
		return
	}
	q.nat = old.nat
	for name, a := range old.given {
		stays := func(m Member) bool { return m.Container == name && !m.Address.IsValid() }
		if strings.HasPrefix(name, takenKey) || slices.ContainsFunc(members, stays) {
			q.given[name] = a
		}
	}
}

// takenKey begins the keys of addresses that another runtime on the machine has. No
// container's name has a NUL.
const takenKey = "\x00taken "

// free returns the next unused address, from the gateway upwards and then from the
// beginning.
func (q *pool) free() (netip.Addr, error) {
	used := make([]netip.Addr, 0, len(q.given))
	for _, a := range q.given {
		used = append(used, a)
	}
	first, broadcast := q.Subnet.Masked().Addr().Next(), last(q.Subnet)
	for range min(1<<16, 1<<(32-q.Subnet.Bits())) {
		if !q.next.IsValid() || !q.Subnet.Contains(q.next) || q.next == broadcast {
			q.next = first
		}
		a := q.next
		q.next = a.Next()
		if a != q.Gateway && a != broadcast && !slices.Contains(used, a) {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("pool %s has no address left in %s", q.Name, q.Subnet)
}

// errTaken means that another container has the address.
var errTaken = errors.New("another container on this machine uses it")

// AttachPool connects a container to a pool: it makes eth0 with an address of the pool,
// which stays the same over starts.
func (h *Host) AttachPool(name string, m Member, pid int) (*Attachment, error) {
	h.mu.Lock()
	q, ok := h.pools[name]
	if !ok {
		h.mu.Unlock()
		return nil, fmt.Errorf("there is no pool %s in device.json", name)
	}
	address, held, err := q.lease(m, h.opt.Leases)
	if err == nil {
		h.translate(q)
	}
	h.mu.Unlock()
	if err != nil {
		return nil, err
	}
	i := Interface{Kind: "veth", Link: q.link(), Name: "eth0", MAC: m.MAC, Up: true,
		Addresses: []netip.Prefix{netip.PrefixFrom(address, q.Subnet.Bits())}, Gateways: []netip.Addr{q.Gateway}}
	if q.Parent != "" {
		i.Kind, i.Mode = "macvlan", "bridge"
	}
	if len(i.MAC) == 0 {
		b := address.As4()
		i.MAC = append([]byte{2, 0}, b[:]...)
	}
	a, err := h.Attach(m.Container, pid, []Interface{i})
	if err != nil {
		endLease(held)
		return nil, err
	}
	a.leases = append(a.leases, held)
	return a, nil
}

// lease leases the container's address, or another one when a second runtime on the
// machine, with which dir is shared, already uses it.
func (q *pool) lease(m Member, dir string) (netip.Addr, *filelock.Lock, error) {
	a, ok := q.given[m.Container]
	if m.Address.IsValid() {
		a, ok = m.Address, true
		if other := q.holder(a, m.Container); other != "" {
			return a, nil, fmt.Errorf("the address %s is that of container %s", a, other)
		}
		if !q.Subnet.Contains(a) || a == q.Gateway || a == last(q.Subnet) || a == q.Subnet.Masked().Addr() {
			return a, nil, fmt.Errorf("the address %s is not available in pool %s, which has %s without %s", a, q.Name, q.Subnet, q.Gateway)
		}
	}
	for tries := 0; tries < 1<<16; tries++ {
		if !ok {
			var err error
			if a, err = q.free(); err != nil {
				return a, nil, err
			}
		}
		held, err := lease(dir, q.link(), a)
		switch {
		case err == nil:
			q.given[m.Container] = a
			return a, held, nil
		case !errors.Is(err, errTaken) || m.Address.IsValid():
			return a, nil, fmt.Errorf("taking the address %s: %w", a, err)
		}
		q.given[takenKey+a.String()] = a
		delete(q.given, m.Container)
		ok = false
	}
	return a, nil, fmt.Errorf("pool %s has no address left in %s", q.Name, q.Subnet)
}

// holder returns the other container that has an address, "" when none has.
func (q *pool) holder(a netip.Addr, except string) string {
	for name, given := range q.given {
		if given == a && name != except && !strings.HasPrefix(name, "\x00") {
			return name
		}
	}
	return ""
}

// forwarding is the kernel parameter that enables IPv4 forwarding.
const forwarding = "/proc/sys/net/ipv4/ip_forward"

// translate sets the translation rule of a pool, once. It only warns on an error:
// containers of the pool still reach each other and the device.
func (h *Host) translate(q *pool) {
	if !q.NAT || q.nat || q.Parent != "" {
		return
	}
	q.nat = true
	err := h.withModules(func() error { return h.nat.add(q.Subnet.Masked(), q.Bridge) }, "nfnetlink", "nf_tables", "nft_chain_nat", "nft_masq")
	if err != nil {
		h.opt.Warn("pool %s: its containers do not reach the outside: %v", q.Name, err)
		return
	}
	if err := os.WriteFile(forwarding, []byte("1"), 0); err != nil {
		h.opt.Warn("pool %s: its containers do not reach the outside: %v", q.Name, err)
	}
}

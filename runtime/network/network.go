// Package network connects containers: it makes the interfaces of a container's
// configuration or address pool, bridges, addresses and source address translation.
//
// A container's interface has two sides. [Host.Attach] makes it from the runtime's
// network namespace, for the container's first process; [Configure] runs in that
// process and sets addresses and routes. [Attachment.Detach] removes the host's side;
// the rest disappears with the container's namespace.
//
// Several runtimes may share a machine. An address of a pool is leased by locking a file
// named after it and the network namespace, in a directory that they share: it is free as
// soon as the process of the lease ends, however it ends. An abstract unix socket would
// do the same, but containers in the device's network could bind it as well. Bridges that
// the runtime makes have an alias, and are removed with the last interface on them. Rules
// of the packet filter are in a table of the runtime's own, which it deletes when it
// starts and when it ends.
package network

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/filelock"
)

// BridgeAlias is the alias (ip-link(8)) that marks bridges that a runtime made.
const BridgeAlias = "made by pantavisor"

// Interface is one network interface of a container.
type Interface struct {
	// Kind is veth, macvlan or phys.
	Kind string
	// Link is the bridge of a veth, "" for none, the interface below a macvlan, or the
	// interface that phys moves to the container.
	Link string
	// Name is the interface's in the container, such as eth0.
	Name string
	// Pair is the name of a veth's other side; "" chooses a name that is unique on the
	// machine.
	Pair string
	// MAC is the hardware address; empty lets the kernel choose.
	MAC []byte
	// MTU in bytes; 0 is the kernel's default.
	MTU int
	// Mode of a macvlan: private, vepa, bridge or passthru.
	Mode string
	Up   bool
	// Addresses with the prefix lengths of their networks.
	Addresses []netip.Prefix
	// Gateways of the default routes, at most one of each family.
	Gateways []netip.Addr
	// AutoGateway4 and AutoGateway6 add the first address of Link as a gateway.
	AutoGateway4, AutoGateway6 bool
}

// Options are the options of [New].
type Options struct {
	// ID distinguishes this runtime from others on the machine, also after a restart.
	ID string
	// Bridge is the default bridge (PV_NET_BRDEV), which is made with Address when an
	// interface is to be connected to it. With an invalid Address it has none.
	Bridge  string
	Address netip.Prefix
	// Clean removes the rules of a killed run with the same ID.
	Clean bool
	// Leases is the directory in which the runtimes of this machine lease addresses; ""
	// when this is the only runtime.
	Leases string
	// Load loads a kernel module for a missing feature; nil loads none.
	Load func(module string) error
	// Warn takes problems that do not stop a container; nil drops them.
	Warn func(format string, args ...any)
}

// Host is the network namespace of the runtime. Its methods may be called from
// several goroutines.
type Host struct {
	opt   Options
	mu    sync.Mutex
	route *conn
	nat   *translator
	over  bool // closed
	pools map[string]*pool
}

// New opens the current network namespace.
func New(opt Options) (*Host, error) {
	if opt.Warn == nil {
		opt.Warn = func(string, ...any) {}
	}
	c, err := dial(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("opening a route netlink socket: %w", err)
	}
	h := &Host{opt: opt, route: c, pools: map[string]*pool{}}
	h.nat = &translator{table: "pantavisor-" + short(opt.ID)}
	if opt.Clean {
		h.nat.clean()
		dropLeases(opt.Leases)
	}
	return h, nil
}

// short returns a short hash of a text, for names.
func short(text string) string {
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(text))
	return fmt.Sprintf("%010x", sum.Sum64()&0xffffffffff)
}

// Close removes what the runtime made: its rules, and its bridges without interfaces.
func (h *Host) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over = true
	err := errors.Join(h.nat.close(), h.dropBridges())
	h.route.close()
	return err
}

// OpenBridge makes the default bridge now, for containers that share the runtime's
// network and expect the bridge in it.
func (h *Host) OpenBridge() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over {
		return nil
	}
	load := h.opt.Load
	h.opt.Load = nil // the bridge may never be used: do not load modules for it
	_, err := h.bridge(h.opt.Bridge)
	h.opt.Load = load
	return err
}

// Attachment is a container's connection to the host's network.
type Attachment struct {
	// Interfaces are those that [Configure] sets up in the container.
	Interfaces []Interface
	host       *Host
	pairs      []string
	leases     []*filelock.Lock // that hold addresses
}

// Attach makes the interfaces of a container in the network namespace of its first
// process. On an error it leaves none of them.
func (h *Host) Attach(container string, pid int, list []Interface) (*Attachment, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := &Attachment{host: h}
	for n, i := range list {
		if i.Pair == "" {
			i.Pair = "pv" + short(h.opt.ID+"/"+container) + "." + strconv.Itoa(n)
		}
		err := h.attach(a, i, pid)
		if err == nil {
			err = h.findGateways(&i)
		}
		if err != nil {
			a.detach()
			return nil, fmt.Errorf("making the interface %s: %w", i.Name, err)
		}
		a.Interfaces = append(a.Interfaces, i)
	}
	return a, nil
}

func (h *Host) attach(a *Attachment, i Interface, pid int) error {
	switch i.Kind {
	case "veth":
		return h.attachVeth(a, i, pid)
	case "macvlan", "phys":
		l, err := h.route.byName(i.Link)
		if err != nil {
			return fmt.Errorf("finding the interface %s: %w", i.Link, err)
		}
		if i.Kind == "phys" {
			return h.route.move(l.index, pid)
		}
		return h.withModules(func() error { return h.route.addMacvlan(i, l.index, pid) }, "macvlan")
	}
	return fmt.Errorf("%q is not a supported kind of interface", i.Kind)
}

// findGateways fills in the gateways that are the link's addresses.
func (h *Host) findGateways(i *Interface) error {
	for four, wanted := range map[bool]bool{true: i.AutoGateway4, false: i.AutoGateway6} {
		if !wanted {
			continue
		}
		l, err := h.route.byName(i.Link)
		if err != nil {
			return fmt.Errorf("the gateway of %s: %w", i.Link, err)
		}
		a, err := h.route.address(l.index, four)
		if err != nil {
			return fmt.Errorf("the gateway of %s: %w", i.Link, err)
		}
		i.Gateways = append(i.Gateways, a)
	}
	return nil
}

func (h *Host) attachVeth(a *Attachment, i Interface, pid int) error {
	master := 0
	if i.Link != "" {
		var err error
		if master, err = h.bridge(i.Link); err != nil {
			return err
		}
	}
	err := h.withModules(func() error { return h.route.addVeth(i, pid) }, "veth")
	if errors.Is(err, unix.EEXIST) { // of a killed container, whose namespace still exists
		_ = h.route.remove(i.Pair)
		err = h.route.addVeth(i, pid)
	}
	if err != nil {
		return err
	}
	a.pairs = append(a.pairs, i.Pair)
	l, err := h.route.byName(i.Pair)
	if err != nil {
		return fmt.Errorf("finding the other side %s: %w", i.Pair, err)
	}
	if master != 0 {
		if err := h.route.setMaster(l.index, master); err != nil {
			return fmt.Errorf("connecting %s to %s: %w", i.Pair, i.Link, err)
		}
	}
	return h.route.setUp(l.index)
}

// bridge finds a bridge. It makes a missing one only if it is the default bridge or the
// bridge of a pool.
func (h *Host) bridge(name string) (int, error) {
	l, err := h.route.byName(name)
	address, known := h.bridgeAddress(name)
	if err == nil {
		if name != h.opt.Bridge && address.IsValid() { // it may lack the gateway's address
			err = h.route.addAddress(l.index, address)
		}
		return l.index, err
	}
	if !errors.Is(err, unix.ENODEV) || !known {
		return 0, fmt.Errorf("the bridge %s: %w", name, err)
	}
	err = h.withModules(func() error { return h.route.addBridge(name, BridgeAlias) }, "bridge")
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return 0, fmt.Errorf("making the bridge %s: %w", name, err)
	}
	if l, err = h.route.byName(name); err != nil {
		return 0, fmt.Errorf("the bridge %s: %w", name, err)
	}
	if address.IsValid() {
		if err := h.route.addAddress(l.index, address); err != nil {
			return 0, fmt.Errorf("giving the bridge %s the address %s: %w", name, address, err)
		}
	}
	if err := h.route.setUp(l.index); err != nil {
		return 0, fmt.Errorf("setting the bridge %s up: %w", name, err)
	}
	return l.index, nil
}

// withModules calls do again with kernel modules loaded when the kernel lacks a feature:
// on devices there is no modprobe that the kernel could call.
func (h *Host) withModules(do func() error, modules ...string) error {
	err := do()
	if err == nil || h.opt.Load == nil || errors.Is(err, unix.EEXIST) {
		return err
	}
	loaded := false
	for _, m := range modules {
		loaded = h.opt.Load(m) == nil || loaded
	}
	if !loaded {
		return err
	}
	return do()
}

// bridgeAddress returns the address of a bridge that the runtime may make.
func (h *Host) bridgeAddress(name string) (netip.Prefix, bool) {
	for _, p := range h.pools {
		if p.Parent == "" && p.Bridge == name {
			return netip.PrefixFrom(p.Gateway, p.Subnet.Bits()), true
		}
	}
	return h.opt.Address, name == h.opt.Bridge
}

// dropBridges removes the unused bridges that a runtime made.
func (h *Host) dropBridges() error {
	list, err := h.route.links()
	if err != nil {
		return fmt.Errorf("listing the interfaces: %w", err)
	}
	var errs []error
	for _, l := range list {
		if l.kind != "bridge" || l.alias != BridgeAlias || slices.ContainsFunc(list, func(o link) bool { return o.master == l.index }) {
			continue
		}
		if _, ours := h.bridgeAddress(l.name); ours {
			errs = append(errs, h.route.remove(l.name))
		}
	}
	return errors.Join(errs...)
}

// Detach removes the host's side.
func (a *Attachment) Detach() {
	if a == nil {
		return
	}
	a.host.mu.Lock()
	defer a.host.mu.Unlock()
	a.detach()
}

func (a *Attachment) detach() {
	for _, p := range a.pairs {
		if err := a.host.route.remove(p); err != nil {
			a.host.opt.Warn("removing the interface %s: %v", p, err)
		}
	}
	for _, f := range a.leases {
		endLease(f)
	}
	a.pairs, a.leases = nil, nil
}

// Configure sets up the interfaces and the loopback in the network namespace of this
// thread, which is the container's.
func Configure(list []Interface) error {
	c, err := dial(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer c.close()
	lo, err := c.byName("lo")
	if err == nil {
		err = c.setUp(lo.index)
	}
	if err != nil {
		return fmt.Errorf("setting up lo: %w", err)
	}
	for _, i := range list {
		if err := c.configure(i); err != nil {
			return fmt.Errorf("setting up %s: %w", i.Name, err)
		}
	}
	return nil
}

func (c *conn) configure(i Interface) error {
	name := i.Name
	if i.Kind == "phys" {
		name = i.Link
	}
	l, err := c.byName(name)
	if err != nil {
		return err
	}
	if name != i.Name && i.Name != "" {
		if err := c.rename(l.index, i.Name); err != nil {
			return fmt.Errorf("renaming %s: %w", name, err)
		}
	}
	for _, p := range i.Addresses {
		if err := c.addAddress(l.index, p); err != nil {
			return fmt.Errorf("adding the address %s: %w", p, err)
		}
	}
	if !i.Up {
		return nil
	}
	if err := c.setUp(l.index); err != nil {
		return err
	}
	for _, g := range i.Gateways {
		if err := c.addDefaultRoute(l.index, g); err != nil {
			return fmt.Errorf("adding the gateway %s: %w", g, err)
		}
	}
	return nil
}

// ParseMAC parses a hardware address of six bytes; an x stands for a digit that is
// derived from seed, so that it stays the same.
func ParseMAC(text, seed string) ([]byte, error) {
	fill := short(seed) + short(seed+"+")
	var digits strings.Builder
	for i, c := range text {
		switch {
		case i%3 == 2 && (c == ':' || c == '-'):
			continue
		case c == 'x' || c == 'X':
			c = rune(fill[digits.Len()%len(fill)])
		}
		digits.WriteRune(c)
	}
	v, err := strconv.ParseUint(digits.String(), 16, 64)
	if err != nil || len(text) != 17 || digits.Len() != 12 {
		return nil, fmt.Errorf("%.40q is not a hardware address; expected the form 02:00:0a:00:03:02", text)
	}
	mac := make([]byte, 6)
	for i := range mac {
		mac[i] = byte(v >> (8 * (5 - i)))
	}
	return mac, nil
}

// CheckName returns an error for a text that is not a valid interface name.
func CheckName(name string) error {
	if name == "" || len(name) >= unix.IFNAMSIZ || name == "." || name == ".." || strings.ContainsAny(name, "/: \t\n\x00") {
		return fmt.Errorf("%.40q is not a valid network interface name", name)
	}
	return nil
}

package container

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/runtime/network"
)

// The bridges have names of this process: others on the machine run the same test.
var (
	testBridge = fmt.Sprintf("pvc%dt", os.Getpid())
	poolBridge = fmt.Sprintf("pvc%dp", os.Getpid())
)

// online gives the launcher a network. Its bridges end with it, unless something is
// still plugged in.
func (b *bench) online() {
	b.t.Helper()
	h, err := network.New(network.Options{ID: b.dir, Bridge: testBridge, Address: netip.MustParsePrefix("10.8.1.1/24"), Warn: b.t.Errorf})
	if err != nil {
		b.t.Fatal(err)
	}
	b.l.Network = h
	b.t.Cleanup(func() {
		if err := h.Close(); err != nil {
			b.t.Error(err)
		}
		for _, name := range []string{testBridge, poolBridge} {
			if _, err := net.InterfaceByName(name); err == nil {
				b.t.Errorf("the bridge %s is left", name)
			}
		}
	})
}

var ownNet = []string{"lxc.namespace.keep =", "lxc.namespace.keep = user ipc"}

func TestVethOfConfiguration(t *testing.T) {
	b := newBench(t)
	b.online()
	r := b.probe([]string{"net:"}, append(ownNet, "lxc.net.0.type = veth", "lxc.net.0.link = "+testBridge, "lxc.net.0.flags = up",
		"lxc.net.0.name = lan0", "lxc.net.0.hwaddr = 02:00:00:00:00:42", "lxc.net.0.ipv4.address = 10.8.1.9/24 10.8.1.255",
		"lxc.net.0.ipv4.gateway = auto", "lxc.net.1.type = empty")...)
	if got := tried(r, "net:"); !strings.Contains(got, "lan0 true 02:00:00:00:00:42 [10.8.1.9/24]") || !strings.Contains(got, "lo true") {
		t.Errorf("the container has %s", got)
	}
}

func TestPoolOfRunJSON(t *testing.T) {
	b := newBench(t)
	b.online()
	pool := network.Pool{Name: "net0", Bridge: poolBridge, Subnet: netip.MustParsePrefix("10.8.2.0/24"), Gateway: netip.MustParseAddr("10.8.2.1"), NAT: true}
	if err := b.l.Network.AddPool(pool, []network.Member{{Container: "first"}, {Container: "pooled"}}, nil); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second start has the same address
		cfg := b.config("lxc.init.cmd = /sbin/init probe net:")
		if err := cfg.JoinPool(); err != nil {
			t.Fatal(err)
		}
		p, err := b.l.Start(Start{Name: "pooled", Hostname: "other", Config: cfg,
			Pool: &PoolMember{"net0", network.Member{Container: "pooled"}}})
		if err != nil {
			t.Fatal(err)
		}
		var r map[string]any
		if err := json.Unmarshal([]byte(firstLine(t, p)), &r); err != nil {
			t.Fatal(err)
		}
		if got := tried(r, "net:"); !strings.Contains(got, "eth0 true 02:00:0a:08:02:03 [10.8.2.3/24]") || r["Hostname"] != "other" {
			t.Errorf("the container has %s, host name %v", got, r["Hostname"])
		}
		b.end(p)
	}
}

func TestNetworkThatCannotBe(t *testing.T) {
	b := newBench(t)
	b.online()
	lines := append(ownNet, "lxc.net.0.type = veth", "lxc.net.0.link = nobridge0")
	_, err := b.l.Start(Start{Name: "bad", Config: b.config(lines...)})
	if err == nil || !strings.Contains(err.Error(), "the bridge nobridge0") {
		t.Errorf("%v", err)
	}
	b.l.Network = nil
	if _, err = b.l.Start(Start{Name: "bad", Config: b.config(lines...)}); err == nil || !strings.Contains(err.Error(), "making its network") {
		t.Errorf("%v", err)
	}
	b.l.Network = nil
	r := b.probe([]string{"net:"}, ownNet...)
	if got := tried(r, "net:"); !strings.HasPrefix(got, "lo true") || strings.Contains(got, "eth") {
		t.Errorf("a network of its own without interfaces has %s", got)
	}
}

func TestParseInterfaces(t *testing.T) {
	c, notes := parse(t, strings.Join([]string{
		"lxc.net.1.type = macvlan", "lxc.net.1.link = eth0", "lxc.net.1.macvlan.mode = bridge", "lxc.net.1.mtu = 1400",
		"lxc.net.0.type = veth", "lxc.net.0.link = lxcbr0", "lxc.net.0.veth.pair = v0", "lxc.net.0.ipv6.address = fd00::2",
		"lxc.net.0.script.up = /x", "lxc.net.2.type = phys", "lxc.net.2.link = usb0",
	}, "\n"))
	got, _, err := c.interfaces("seed")
	if err != nil {
		t.Fatal(err)
	}
	want := []network.Interface{
		{Kind: "veth", Link: "lxcbr0", Name: "eth0", Pair: "v0", Addresses: []netip.Prefix{netip.MustParsePrefix("fd00::2/64")}},
		{Kind: "macvlan", Link: "eth0", Name: "eth1", Mode: "bridge", MTU: 1400},
		{Kind: "phys", Link: "usb0", Name: "usb0"},
	}
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if s := fmt.Sprint(notes); !strings.Contains(s, "lxc.net.0.script.up") || len(notes) != 1 {
		t.Errorf("notes %v", notes)
	}
	if d := cmp.Diff([]string{"fd00::2"}, strings.Fields(strings.Trim(fmt.Sprint(c.Addresses()), "[]"))); d != "" {
		t.Error(d)
	}
}

func TestBadInterfaces(t *testing.T) {
	for _, bad := range []string{"link = a/b", "name = waytoolongforaname", "hwaddr = 1", "flags = down", "mtu = 1", "ipv4.address = x",
		"ipv4.address = fd00::1/64", "ipv6.gateway = 10.0.0.1", "ipv4.gateway = dev", "veth.mode = router", "macvlan.mode = x"} {
		_, _, err := Parse(strings.NewReader("lxc.net.0.type = veth\nlxc.net.0." + bad))
		key, _, _ := strings.Cut(bad, " ")
		if err == nil || !strings.Contains(err.Error(), "lxc.net.0."+key+": ") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if _, _, err := Parse(strings.NewReader("lxc.net.0.type = macvlan\n")); err == nil || !strings.Contains(err.Error(), "lxc.net.0.link is missing") {
		t.Errorf("%v", err)
	}
	c, _ := parse(t, "lxc.net.0.type = veth\n")
	if err := c.JoinPool(); err == nil {
		t.Error("a pool and interfaces of its own")
	}
}

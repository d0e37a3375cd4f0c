package scan

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/mdns/v2"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/dns/dnsmessage"
)

// inNetwork names the variable that tells a test that it runs in a network of its own.
const inNetwork = "SCAN_TEST_NETWORK"

// patience is how long a test waits for what must come.
const patience = time.Minute

// host is what a responder announces.
type host struct {
	instance, name string
	text           []string
	v4, v6         netip.Addr
}

var hub = "pantahub=https://api.example.com:443"

// Devices are found among other hosts by what they announce on the wire. The test
// runs itself in a new network, where nobody else listens.
func TestDevices(t *testing.T) {
	if os.Getenv(inNetwork) == "" {
		rerun(t)
		return
	}
	network(t)
	respond(t,
		host{"owned", "linux.local.", []string{"device-id=5b0aa4363c6f7200095b2566", hub + "/"}, netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")},
		host{"free", "free.local.", []string{"Device-ID=63593333a2ebef000a2fd62e", "challenge=plainly-dynamic-wombat", hub}, netip.Addr{}, netip.MustParseAddr("fe80::1b26:73e:24d7:91a9")},
		host{"laptop", "laptop.local.", []string{""}, netip.MustParseAddr("192.0.2.9"), netip.Addr{}},
		host{"evil", "evil.local.", []string{"device-id=1;reboot", "challenge=x", hub}, netip.MustParseAddr("192.0.2.10"), netip.Addr{}},
	)
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	complete := map[string]bool{}
	got, err := Devices(ctx, Options{Found: func(d Device) {
		complete[d.ID] = d.Challenge != "" || len(d.IPv4)+len(d.IPv6) == 2
		if complete["5b0aa4363c6f7200095b2566"] && complete["63593333a2ebef000a2fd62e"] {
			stop()
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := []Device{
		{ID: "5b0aa4363c6f7200095b2566", Hub: "https://api.example.com:443", Host: "linux.local.", Port: 22,
			IPv4: []netip.Addr{netip.MustParseAddr("192.0.2.7")}, IPv6: []netip.Addr{netip.MustParseAddr("2001:db8::7")}},
		{ID: "63593333a2ebef000a2fd62e", Challenge: "plainly-dynamic-wombat", Hub: "https://api.example.com:443", Host: "free.local.", Port: 22,
			IPv4: []netip.Addr{}, IPv6: []netip.Addr{netip.MustParseAddr("fe80::1b26:73e:24d7:91a9")}},
	}
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Error(d)
	}
}

// Where there is no network that is said.
func TestNoNetwork(t *testing.T) {
	if os.Getenv(inNetwork) == "" {
		rerun(t)
		return
	}
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	if got, err := Devices(ctx, Options{}); err == nil {
		t.Errorf("found %v", got)
	}
}

// rerun runs the test in a network namespace of its own.
func rerun(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a network namespace needs root")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v") //nolint:gosec // the test itself
	cmd.Env = append(os.Environ(), inNetwork+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if bytes.Contains(out, []byte("--- SKIP")) {
		t.Skipf("skipped in its network namespace:\n%s", out)
	}
}

// network makes an interface; what is sent to a group comes back to its members.
func network(t *testing.T) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "net0"
	link := &netlink.Veth{LinkAttrs: attrs, PeerName: "net1"}
	if err := netlink.LinkAdd(link); err != nil {
		t.Skipf("no virtual interfaces: %v", err)
	}
	peer, err := netlink.LinkByName(link.PeerName)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []netlink.Link{peer, link} {
		if err := netlink.LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
	}
	addr, err := netlink.ParseAddr("192.0.2.1/24")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(link, addr); err != nil {
		t.Fatal(err)
	}
}

// respond answers questions for the service until the test ends.
func respond(t *testing.T, hosts ...host) {
	t.Helper()
	group := &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353}
	ifc, err := net.InterfaceByName("net0")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenMulticastUDP("udp4", ifc, group)
	if err != nil {
		t.Fatal(err)
	}
	// The answers come from the network's address, as those of a device do.
	out, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1)}, group)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { conn.Close(); out.Close(); <-done })
	go func() {
		defer close(done)
		buf := make([]byte, 9000)
		for {
			n, _, err := conn.ReadFromUDP(buf)
			if err != nil {
				return
			}
			var q dnsmessage.Message
			if q.Unpack(buf[:n]) != nil || q.Response || len(q.Questions) == 0 || q.Questions[0].Name.String() != serviceName+".local." {
				continue
			}
			for _, h := range hosts {
				if _, err := out.Write(h.answer(t)); err != nil {
					return
				}
			}
		}
	}()
}

// answer is the message in the order of avahi's: the address may come first.
func (h host) answer(t *testing.T) []byte {
	name := func(s string) dnsmessage.Name { return dnsmessage.MustNewName(s) }
	head := func(s string, flush dnsmessage.Class) dnsmessage.ResourceHeader {
		return dnsmessage.ResourceHeader{Name: name(s), Class: dnsmessage.ClassINET | flush, TTL: 120}
	}
	const flush = 1 << 15
	service := h.instance + "." + serviceName + ".local."
	m := dnsmessage.Message{Header: dnsmessage.Header{Response: true, Authoritative: true}}
	m.Answers = []dnsmessage.Resource{{Header: head(serviceName+".local.", 0), Body: &dnsmessage.PTRResource{PTR: name(service)}}}
	if h.v4.IsValid() {
		m.Additionals = append(m.Additionals, dnsmessage.Resource{Header: head(h.name, flush), Body: &dnsmessage.AResource{A: h.v4.As4()}})
	}
	m.Additionals = append(m.Additionals,
		dnsmessage.Resource{Header: head(service, flush), Body: &dnsmessage.SRVResource{Port: 22, Target: name(h.name)}},
		dnsmessage.Resource{Header: head(service, flush), Body: &dnsmessage.TXTResource{TXT: h.text}})
	if h.v6.IsValid() {
		m.Additionals = append(m.Additionals, dnsmessage.Resource{Header: head(h.name, flush), Body: &dnsmessage.AAAAResource{AAAA: h.v6.As16()}})
	}
	data, err := m.Pack()
	if err != nil {
		t.Error(err)
	}
	return data
}

// What would do harm on a terminal or in a shell is not an announcement of a device.
func TestParse(t *testing.T) {
	good := map[string]string{"device-id": "5b0aa4363c6f7200095b2566", "challenge": "a-b-c", "pantahub": "https://h:443"}
	for _, tc := range []struct {
		key, value string
		want       bool
	}{
		{"challenge", "", true},
		{"pantahub", "", true},
		{"pantahub", "http://[fd00::1]:12365/api", true},
		{"device-id", "", false},
		{"device-id", "../x", false},
		{"challenge", "a b", false},
		{"challenge", "$(reboot)", false},
		{"challenge", "a\x1b[2J", false},
		{"pantahub", "https://h/;reboot", false},
		{"pantahub", "https://", false},
		{"pantahub", "ftp://h", false},
		{"pantahub", "https://h\nx", false},
	} {
		in := mdns.ServiceInstance{Host: "h.local."}
		for key, value := range good {
			if key == tc.key {
				value = tc.value
			}
			in.Text = append(in.Text, mdns.NewTXTString(key, value))
		}
		if _, ok := parse(in); ok != tc.want {
			t.Errorf("%s %q: %v", tc.key, tc.value, ok)
		}
	}
	if _, ok := parse(mdns.ServiceInstance{Host: "a`b`", Text: []mdns.TXTEntry{mdns.NewTXTString("device-id", "1")}}); ok {
		t.Error("a host name with quotes")
	}
}

func TestAddrs(t *testing.T) {
	var d Device
	for _, a := range []string{"192.0.2.9", "fe80::1%eth0", "192.0.2.1", "::ffff:192.0.2.9", "fe80::1%eth1"} {
		d.add(netip.MustParseAddr(a))
	}
	d.add(netip.Addr{})
	if len(d.IPv4) != 2 || d.IPv4[0].String() != "192.0.2.1" || len(d.IPv6) != 1 || d.IPv6[0].String() != "fe80::1" {
		t.Errorf("%v %v", d.IPv4, d.IPv6)
	}
	for i := range 300 {
		d.add(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}))
	}
	if len(d.IPv4) != maxAddrs {
		t.Errorf("%d addresses", len(d.IPv4))
	}
}

package network

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// TestServeHost gets a lease from our server over a virtual cable, as the host does.
func TestServeHost(t *testing.T) {
	if os.Getenv(inNamespace) == "" {
		runInNamespace(t)
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	cable := plugCable(t)
	ended := make(chan error, 1)
	served, stop := context.WithCancel(ctx)
	go inside(t, func() {
		must(t, netns.Set(cable.ns))
		ended <- serveDHCP(served, "far", gadgetPrefix, t.Logf)
	})
	near, err := netlink.LinkByName("near")
	must(t, err)
	must(t, netlink.LinkSetUp(near))
	l, err := wireClient{ifname: "near"}.request(ctx)
	must(t, err)
	if l.Prefix != netip.MustParsePrefix("192.168.7.2/24") || l.Gateway.IsValid() || len(l.DNS) > 0 || l.expire != hostLease {
		t.Errorf("lease %+v", l)
	}
	stop()
	must(t, <-ended)
}

func TestHostAddr(t *testing.T) {
	for own, want := range map[string]string{
		"192.168.7.1/24": "192.168.7.2", "10.0.0.254/24": "10.0.0.253", "10.0.0.2/30": "10.0.0.1", "10.0.0.1/30": "10.0.0.2",
		"10.0.0.1/32": "invalid IP", "10.0.0.0/31": "invalid IP",
	} {
		if got, _ := hostAddr(netip.MustParsePrefix(own)); got.String() != want {
			t.Errorf("%s: %s, want %s", own, got, want)
		}
	}
}

// TestAnswer asks for what the server does not give.
func TestAnswer(t *testing.T) {
	host := netip.MustParseAddr("192.168.7.2")
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	ask := func(typ dhcpv4.MessageType, more ...dhcpv4.Modifier) string {
		m, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(mac), dhcpv4.WithMessageType(typ)}, more...)...)
		must(t, err)
		reply, err := answer(m, gadgetPrefix, host)
		must(t, err)
		if reply == nil {
			return "nothing"
		}
		return reply.MessageType().String() + " " + reply.YourIPAddr.String()
	}
	wish := func(addr string) dhcpv4.Modifier {
		return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.ParseIP(addr)))
	}
	server := func(addr string) dhcpv4.Modifier {
		return dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.ParseIP(addr)))
	}
	for _, c := range []struct{ got, want string }{
		{ask(dhcpv4.MessageTypeDiscover), "OFFER 192.168.7.2"},
		{ask(dhcpv4.MessageTypeDiscover, wish("10.0.0.1")), "OFFER 192.168.7.2"},
		{ask(dhcpv4.MessageTypeRequest, wish("192.168.7.2"), server("192.168.7.1")), "ACK 192.168.7.2"},
		{ask(dhcpv4.MessageTypeRequest, dhcpv4.WithClientIP(net.ParseIP("192.168.7.2"))), "ACK 192.168.7.2"},
		{ask(dhcpv4.MessageTypeRequest, wish("192.168.7.9")), "NAK 0.0.0.0"},
		{ask(dhcpv4.MessageTypeRequest, wish("192.168.7.2"), server("192.168.7.8")), "nothing"},
		{ask(dhcpv4.MessageTypeRelease), "nothing"},
	} {
		if c.got != c.want {
			t.Errorf("%s, want %s", c.got, c.want)
		}
	}
}

// TestMakeGadget makes it in a tree with the directories that the kernel makes; the real one
// is in test/vm.
func TestMakeGadget(t *testing.T) {
	g := &gadget{config: t.TempDir(), serial: "0001"}
	dir := filepath.Join(g.config, "usb_gadget", gadgetName)
	for _, d := range []string{"os_desc", "strings", "configs/c.1/strings", function + "/os_desc/interface.ncm"} {
		must(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	must(t, g.mount())
	for range 2 { // this program may start again
		must(t, g.make("udc.0"))
	}
	for file, want := range map[string]string{
		"UDC": "udc.0", "strings/0x409/serialnumber": "0001", "configs/c.1/ncm.usb0/os_desc/interface.ncm/compatible_id": "WINNCM",
		"os_desc/c.1/strings/0x409/configuration": "Ethernet",
	} {
		if got, err := os.ReadFile(filepath.Join(dir, file)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v, want %q", file, got, err, want)
		}
	}
	a, b := hardwareAddress("0001", "device"), hardwareAddress("0001", "host")
	if a == b || a != hardwareAddress("0001", "device") || !strings.ContainsAny(a[1:2], "26ae") {
		t.Errorf("addresses %s and %s", a, b)
	}
	if got := serialNumber(filepath.Join(dir, "none"), filepath.Join(dir, "UDC")); got != "udc.0" {
		t.Errorf("serial number %q", got)
	}
}

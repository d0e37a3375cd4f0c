package network

import (
	"bufio"
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

const inNamespace = "PV_TEST_NETWORK_NAMESPACE"

// TestRun runs the program against a DHCP server on the other end of a virtual
// cable, in a network namespace of its own.
func TestRun(t *testing.T) {
	if os.Getenv(inNamespace) == "" {
		runInNamespace(t)
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	cable := plugCable(t)
	requests := cable.serveDHCP(t)
	values := serveMeta(t)
	resolv := filepath.Join(t.TempDir(), "resolv.conf")
	ended := make(chan error, 1)
	runCtx, stop := context.WithCancel(ctx)
	go func() {
		ended <- Run(runCtx, Config{Options: Options{Interface: "near"}, ResolvConf: resolv, Socket: metaSocket(t), Log: log.New(testWriter{t}, "", 0)})
	}()
	waitValue(ctx, t, values, `"near.ipv4":["192.0.2.77/24"]`)
	checkHost(t, resolv)
	<-requests // the first request
	select {
	case kind := <-requests:
		if kind != "renew" {
			t.Errorf("after the first lease the server is asked to %s", kind)
		}
	case <-ctx.Done():
		t.Fatal("the lease is not renewed")
	}
	if err := cable.host.LinkSetDown(cable.far); err != nil {
		t.Fatal(err)
	}
	waitValueWithout(ctx, t, values, "192.0.2.77")
	if err := cable.host.LinkSetUp(cable.far); err != nil {
		t.Fatal(err)
	}
	waitValue(ctx, t, values, `"near.ipv4":["192.0.2.77/24"]`)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", strings.TrimSpace(string(p)))
	return len(p), nil
}

func runInNamespace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a network namespace needs root")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// cable is the server's side: a namespace of its own, as another host would be.
type cable struct {
	ns   netns.NsHandle
	host *netlink.Handle
	far  netlink.Link
}

// plugCable makes the interfaces "near", which is tested, and "far", which has the
// server's address in the other namespace.
func plugCable(t *testing.T) *cable {
	t.Helper()
	v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "near"}, PeerName: "far"}
	if err := netlink.LinkAdd(v); err != nil {
		t.Skipf("this kernel makes no veth pair: %v", err)
	}
	c := &cable{}
	var err error
	inside(t, func() { c.ns, err = netns.New() })
	must(t, err)
	t.Cleanup(func() { _ = c.ns.Close() })
	far, err := netlink.LinkByName("far")
	must(t, err)
	must(t, netlink.LinkSetNsFd(far, int(c.ns)))
	c.host, err = netlink.NewHandleAt(c.ns)
	must(t, err)
	c.far, err = c.host.LinkByName("far")
	must(t, err)
	addr, _ := netlink.ParseAddr("192.0.2.1/24")
	must(t, c.host.AddrAdd(c.far, addr))
	must(t, c.host.LinkSetUp(c.far))
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// inside runs f on a thread whose namespace f may change; it is changed back.
func inside(t *testing.T, f func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	must(t, err)
	defer func() {
		must(t, netns.Set(home))
		_ = home.Close()
	}()
	f()
}

// serveDHCP answers on "far" with leases that are to be renewed after a second,
// and reports what it is asked for.
func (c *cable) serveDHCP(t *testing.T) <-chan string {
	t.Helper()
	asked := make(chan string, 100)
	handler := func(conn net.PacketConn, peer net.Addr, m *dhcpv4.DHCPv4) {
		answer, err := dhcpv4.NewReplyFromRequest(m,
			dhcpv4.WithYourIP(net.IPv4(192, 0, 2, 77)), dhcpv4.WithServerIP(net.IPv4(192, 0, 2, 1)), dhcpv4.WithNetmask(net.CIDRMask(24, 32)),
			dhcpv4.WithRouter(net.IPv4(192, 0, 2, 1)), dhcpv4.WithDNS(net.IPv4(192, 0, 2, 53)), dhcpv4.WithLeaseTime(3600),
			dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(192, 0, 2, 1))),
			dhcpv4.WithOption(dhcpv4.Option{Code: dhcpv4.OptionRenewTimeValue, Value: dhcpv4.Duration(time.Second)}))
		if err != nil {
			return
		}
		switch m.MessageType() {
		case dhcpv4.MessageTypeDiscover:
			answer.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeOffer))
		case dhcpv4.MessageTypeRequest:
			answer.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeAck))
			kind := "request"
			if !m.ClientIPAddr.IsUnspecified() {
				kind = "renew"
			}
			select {
			case asked <- kind:
			default:
			}
		}
		_, _ = conn.WriteTo(answer.ToBytes(), peer)
	}
	var srv *server4.Server
	var err error
	inside(t, func() {
		if err = netns.Set(c.ns); err == nil {
			srv, err = server4.NewServer("far", &net.UDPAddr{Port: dhcpv4.ServerPort}, handler)
		}
	})
	must(t, err)
	go func() { _ = srv.Serve() }()
	t.Cleanup(func() { _ = srv.Close() })
	return asked
}

func metaSocket(t *testing.T) string { return filepath.Join(os.TempDir(), "pv-network-"+t.Name()) }

// serveMeta takes device metadata as the control socket does.
func serveMeta(t *testing.T) <-chan string {
	t.Helper()
	_ = os.Remove(metaSocket(t))
	l, err := net.Listen("unix", metaSocket(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	values := make(chan string, 100)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			req, err := http.ReadRequest(bufio.NewReader(conn))
			if err == nil && req.Method == http.MethodPut && req.URL.Path == "/device-meta/"+metaKey {
				body, _ := io.ReadAll(req.Body)
				values <- string(body)
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}
			_ = conn.Close()
		}
	}()
	return values
}

func waitValue(ctx context.Context, t *testing.T, values <-chan string, part string) {
	t.Helper()
	waitFor(ctx, t, values, part, true)
}

func waitValueWithout(ctx context.Context, t *testing.T, values <-chan string, part string) {
	t.Helper()
	waitFor(ctx, t, values, part, false)
}

func waitFor(ctx context.Context, t *testing.T, values <-chan string, part string, with bool) {
	t.Helper()
	last := ""
	for {
		select {
		case last = <-values:
			if strings.Contains(last, part) == with {
				return
			}
		case <-ctx.Done():
			t.Fatalf("waiting for %q (%v) in device metadata; last: %s", part, with, last)
		}
	}
}

// checkHost looks at what the lease made of the interface.
func checkHost(t *testing.T, resolv string) {
	t.Helper()
	near, err := netlink.LinkByName("near")
	if err != nil {
		t.Fatal(err)
	}
	list, err := netlink.AddrList(near, netlink.FAMILY_V4)
	if err != nil || len(list) != 1 || list[0].ValidLft <= 3500 || list[0].ValidLft > 3600 {
		t.Errorf("addresses %v, %v", list, err)
	}
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Gw: net.IPv4(192, 0, 2, 1)}, netlink.RT_FILTER_GW)
	if err != nil || len(routes) != 1 {
		t.Errorf("routes %v, %v", routes, err)
	}
	if got, _ := os.ReadFile(resolv); string(got) != "nameserver 192.0.2.53\n" {
		t.Errorf("resolv.conf: %q", got)
	}
}

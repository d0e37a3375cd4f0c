package network

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const roleEnv = "NETWORK_TEST_ROLE"

// TestMain runs all tests in a network namespace of their own: they make bridges and
// rules. It also is the process in a container.
func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case "container":
		container()
		os.Exit(0)
	case "host":
		if err := Configure(nil); err != nil {
			panic(err)
		}
		os.Exit(m.Run())
	}
	if os.Getuid() != 0 {
		fmt.Println("making network namespaces needs root; the tests that do are skipped")
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), roleEnv+"=host")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		panic(err)
	}
	os.Exit(cmd.ProcessState.ExitCode())
}

// container obeys lines on its standard input: an array of interfaces to configure,
// "show", "listen" or "dial ADDRESS".
func container() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		word, rest, _ := strings.Cut(in.Text(), " ")
		switch word {
		case "configure":
			var list []Interface
			if err := json.Unmarshal([]byte(rest), &list); err != nil {
				panic(err)
			}
			fmt.Println(Configure(list))
		case "show":
			fmt.Println(show())
		case "listen":
			l, err := net.Listen("tcp4", ":7")
			if err != nil {
				panic(err)
			}
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					fmt.Fprintln(c, c.RemoteAddr())
					c.Close()
				}
			}()
			fmt.Println("listening")
		case "dial":
			fmt.Println(dialOut(rest))
		}
	}
}

// dialOut says as whom the other end sees this one.
func dialOut(to string) string {
	c, err := net.DialTimeout("tcp4", to+":7", 30*time.Second)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	line, _ := io.ReadAll(c)
	host, _, _ := net.SplitHostPort(strings.TrimSpace(string(line)))
	return host
}

// show lists the interfaces: name, hardware address, flags, addresses.
func show() string {
	list, err := net.Interfaces()
	if err != nil {
		return err.Error()
	}
	var out []string
	for _, i := range list {
		addrs, _ := i.Addrs()
		var v4 []string
		for _, a := range addrs {
			if !strings.HasPrefix(a.String(), "fe80") {
				v4 = append(v4, a.String())
			}
		}
		out = append(out, fmt.Sprintf("%s %s mtu %d up %v %v", i.Name, i.HardwareAddr, i.MTU, i.Flags&net.FlagUp != 0, v4))
	}
	return strings.Join(out, "; ")
}

// guest is a container's process.
type guest struct {
	t   *testing.T
	pid int
	in  io.WriteCloser
	out *bufio.Reader
}

func newGuest(t *testing.T) *guest {
	t.Helper()
	if os.Getenv(roleEnv) != "host" {
		t.Skip("making network namespaces needs root")
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"=container")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	return &guest{t, cmd.Process.Pid, in, bufio.NewReader(out)}
}

func (g *guest) ask(words ...any) string {
	g.t.Helper()
	fmt.Fprintln(g.in, words...)
	line, err := g.out.ReadString('\n')
	if err != nil {
		g.t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

func (g *guest) configure(list ...Interface) {
	g.t.Helper()
	text, err := json.Marshal(list)
	if err != nil {
		g.t.Fatal(err)
	}
	if got := g.ask("configure", string(text)); got != "<nil>" {
		g.t.Fatal(got)
	}
}

func newHost(t *testing.T, opt Options) *Host {
	t.Helper()
	if os.Getenv(roleEnv) != "host" {
		t.Skip("making network namespaces needs root")
	}
	if opt.ID == "" {
		opt.ID = t.Name()
	}
	opt.Warn, opt.Clean = t.Errorf, true
	h, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *Host) end(t *testing.T) {
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}

// left lists the interfaces of the host beside those that a namespace always has.
func left(t *testing.T) (names []string) {
	t.Helper()
	list, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range list {
		if i.Name != "lo" && !strings.HasPrefix(i.Name, "ifb") && !strings.HasPrefix(i.Name, "sit") &&
			!strings.HasPrefix(i.Name, "tunl") && !strings.HasPrefix(i.Name, "ip6tnl") && !strings.HasPrefix(i.Name, "gre") && !strings.HasPrefix(i.Name, "erspan") {
			names = append(names, i.Name)
		}
	}
	return names
}

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func testPool(nat bool) Pool {
	return Pool{Name: "net0", Bridge: "pvbr0", Subnet: prefix("10.9.3.0/24"), Gateway: addr("10.9.3.1"), NAT: nat}
}

// join connects a guest to the pool as a launcher does.
func join(t *testing.T, h *Host, name string) (*guest, *Attachment, Interface) {
	t.Helper()
	g := newGuest(t)
	a, err := h.AttachPool("net0", Member{Container: name}, g.pid)
	if err != nil {
		t.Fatal(err)
	}
	g.configure(a.Interfaces...)
	return g, a, a.Interfaces[0]
}

// outside is a machine beyond the host: 192.0.2.2, which knows the way to the
// containers' range.
func outside(t *testing.T, h *Host) {
	t.Helper()
	g := newGuest(t)
	i := Interface{Kind: "veth", Name: "eth0", Pair: "uplink", Up: true,
		Addresses: []netip.Prefix{prefix("192.0.2.2/24")}, Gateways: []netip.Addr{addr("192.0.2.1")}}
	a, err := h.Attach("outside", g.pid, []Interface{i})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Detach)
	l, err := h.route.byName("uplink")
	if err == nil {
		err = h.route.addAddress(l.index, prefix("192.0.2.1/24"))
	}
	if err != nil {
		t.Fatal(err)
	}
	g.configure(i)
	if got := g.ask("listen"); got != "listening" {
		t.Fatal(got)
	}
}

func TestPoolConnectsAndTranslates(t *testing.T) {
	for _, nat := range []bool{true, false} {
		t.Run(fmt.Sprintf("nat %v", nat), func(t *testing.T) {
			h := newHost(t, Options{})
			t.Cleanup(func() {
				h.end(t)
				if names := left(t); len(names) > 0 {
					t.Errorf("left: %v", names)
				}
			})
			outside(t, h)
			if err := os.WriteFile(forwarding, []byte("1"), 0); err != nil {
				t.Fatal(err)
			}
			if err := h.AddPool(testPool(nat), []Member{{Container: "a"}, {Container: "b"}}, nil); err != nil {
				t.Fatal(err)
			}
			b, attB, ib := join(t, h, "b")
			a, attA, _ := join(t, h, "a")
			defer attA.Detach()
			defer attB.Detach()
			if got := ib.Addresses[0].String(); got != "10.9.3.3/24" {
				t.Errorf("b has %s whoever comes first; want 10.9.3.3/24", got)
			}
			if got := a.ask("show"); !strings.Contains(got, "eth0 02:00:0a:09:03:02 mtu 1500 up true [10.9.3.2/24]") || !strings.Contains(got, "lo ") {
				t.Errorf("a has %s", got)
			}
			b.ask("listen")
			if got := a.ask("dial 10.9.3.3"); got != "10.9.3.2" {
				t.Errorf("b sees a as %s", got)
			}
			want := "10.9.3.2"
			if nat {
				want = "192.0.2.1"
			}
			if got := a.ask("dial 192.0.2.2"); got != want {
				t.Errorf("the outside sees a as %s, want %s", got, want)
			}
		})
	}
}

// TestTwoRuntimesShareBridge: the same state runs twice on one machine.
func TestTwoRuntimesShareBridge(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "leases")
	one, two := newHost(t, Options{ID: "/one", Leases: dir}), newHost(t, Options{ID: "/two", Leases: dir})
	members := []Member{{Container: "a"}}
	for _, h := range []*Host{one, two} {
		if err := h.AddPool(testPool(true), members, nil); err != nil {
			t.Fatal(err)
		}
	}
	_, a1, i1 := join(t, one, "a")
	g2, a2, i2 := join(t, two, "a")
	if i1.Addresses[0] == i2.Addresses[0] {
		t.Errorf("both have %s", i1.Addresses[0])
	}
	if a1.pairs[0] == a2.pairs[0] {
		t.Errorf("both have %s on the host", a1.pairs[0])
	}
	a1.Detach()
	one.end(t)
	if n := tables(t, two); n != 1 {
		t.Errorf("%d tables of the packet filter, want that of the second", n)
	}
	l, err := net.Listen("tcp4", "10.9.3.1:0") // the bridge is the second's now
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if got := g2.ask("show"); !strings.Contains(got, "10.9.3.3/24") {
		t.Errorf("the second's container has %s", got)
	}
	a2.Detach()
	two.end(t)
	if _, err := os.Lstat(dir); err == nil {
		t.Error("the directory of the leases is left")
	}
	if names := left(t); len(names) > 0 {
		t.Errorf("left: %v", names)
	}
}

// tables counts those of the packet filter.
func tables(t *testing.T, h *Host) (n int) {
	t.Helper()
	err := h.nat.nf.ask(nfMessage(unix.NFT_MSG_GETTABLE, unix.NLM_F_DUMP), func([]byte) { n++ })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestStartAfterKill finds what a runtime leaves that could not clean up.
func TestStartAfterKill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "leases")
	dead := newHost(t, Options{ID: "same", Leases: dir})
	if err := dead.AddPool(testPool(true), []Member{{Container: "a"}}, nil); err != nil {
		t.Fatal(err)
	}
	_, a, _ := join(t, dead, "a")
	for _, f := range a.leases { // as the kernel does
		f.Unlock()
	}
	dead.route.close()
	dead.nat.nf.close()

	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("a killed runtime left %v, want the file of its address", entries)
	}
	h := newHost(t, Options{ID: "same", Leases: dir})
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("the next left %v", entries)
	}
	if n := tables(t, h); n != 0 {
		t.Errorf("%d tables are left", n)
	}
	if err := h.AddPool(testPool(true), []Member{{Container: "a"}}, nil); err != nil {
		t.Fatal(err)
	}
	g, b, i := join(t, h, "a")
	if got := i.Addresses[0].String(); got != "10.9.3.2/24" || !strings.Contains(g.ask("show"), got) {
		t.Errorf("the container has %s now", got)
	}
	b.Detach()
	h.end(t)
	if names := left(t); len(names) > 0 || len(tablesOf(t)) > 0 {
		t.Errorf("left: %v %v", names, tablesOf(t))
	}
}

func tablesOf(t *testing.T) []int {
	h := newHost(t, Options{ID: "other"})
	defer h.end(t)
	return make([]int, tables(t, h))
}

func TestKindsOfInterfaces(t *testing.T) {
	h := newHost(t, Options{Bridge: "pvdef0", Address: prefix("10.9.9.1/24")})
	if err := h.OpenBridge(); err != nil {
		t.Fatal(err)
	}
	g := newGuest(t)
	list := []Interface{
		{Kind: "veth", Link: "pvdef0", Name: "net1", MTU: 1400, MAC: []byte{2, 0, 0, 0, 0, 9}, Up: true,
			Addresses: []netip.Prefix{prefix("10.9.9.7/24"), prefix("fd00:9::7/64")}, Gateways: []netip.Addr{addr("10.9.9.1"), addr("fd00:9::1")}},
		{Kind: "macvlan", Link: "pvdef0", Name: "mac0", Mode: "bridge", Up: true, Addresses: []netip.Prefix{prefix("10.9.8.1/24")}},
		{Kind: "veth", Name: "alone", Pair: "mine"},
		{Kind: "veth", Link: "pvdef0", Name: "auto", AutoGateway4: true},
	}
	a, err := h.Attach("kinds", g.pid, list)
	if err != nil {
		t.Fatal(err)
	}
	if got := a.Interfaces[3].Gateways; len(got) != 1 || got[0] != addr("10.9.9.1") {
		t.Errorf("the gateway is %v, want the bridge's address", got)
	}
	g.configure(a.Interfaces...)
	got := g.ask("show")
	for _, want := range []string{"net1 02:00:00:00:00:09 mtu 1400 up true [10.9.9.7/24 fd00:9::7/64]", "mac0 ", "[10.9.8.1/24]", "alone "} {
		if !strings.Contains(got, want) {
			t.Errorf("%s lacks %s", got, want)
		}
	}
	if !slices.Contains(left(t), "mine") {
		t.Errorf("the host has %v, not the name that was asked for", left(t))
	}
	moved := newGuest(t)
	phys := Interface{Kind: "phys", Link: "mine", Name: "given", Up: true}
	b, err := h.Attach("phys", moved.pid, []Interface{phys})
	if err != nil {
		t.Fatal(err)
	}
	moved.configure(phys)
	if got := moved.ask("show"); !strings.Contains(got, "given ") {
		t.Errorf("the other has %s", got)
	}
	b.Detach()
	a.Detach()
	h.end(t)
	if names := left(t); len(names) > 0 {
		t.Errorf("left: %v", names)
	}
}

// TestPoolOnParent puts two containers beside the host on an interface of its own.
func TestPoolOnParent(t *testing.T) {
	h := newHost(t, Options{Bridge: "pvdef0", Address: prefix("10.9.3.1/24")})
	defer h.end(t)
	if err := h.OpenBridge(); err != nil { // stands for a network card
		t.Fatal(err)
	}
	p := testPool(true)
	p.Bridge, p.Parent = "", "pvdef0"
	if err := h.AddPool(p, []Member{{Container: "a"}, {Container: "b"}}, nil); err != nil {
		t.Fatal(err)
	}
	a, attA, _ := join(t, h, "a")
	defer attA.Detach()
	b, attB, _ := join(t, h, "b")
	defer attB.Detach()
	b.ask("listen")
	if got := a.ask("dial 10.9.3.3"); got != "10.9.3.2" {
		t.Errorf("b sees a as %s", got)
	}
	if n := tables(t, h); n != 0 {
		t.Errorf("there are %d tables for addresses of the outside", n)
	}
}

func TestModulesAreLoadedOnce(t *testing.T) {
	var asked []string
	h := &Host{opt: Options{Load: func(m string) error {
		asked = append(asked, m)
		if m == "absent" {
			return os.ErrNotExist
		}
		return nil
	}}}
	tries := 0
	do := func() error {
		if tries++; tries == 1 {
			return unix.EOPNOTSUPP
		}
		return nil
	}
	if err := h.withModules(do, "absent", "there"); err != nil || tries != 2 || len(asked) != 2 {
		t.Errorf("%v after %d tries and %v", err, tries, asked)
	}
	tries = 0
	if err := h.withModules(do, "absent"); !errors.Is(err, unix.EOPNOTSUPP) || tries != 1 {
		t.Errorf("%v after %d tries without a module", err, tries)
	}
}

func TestAttachNamesWhatIsMissing(t *testing.T) {
	h := newHost(t, Options{Bridge: "pvdef0"})
	defer h.end(t)
	g := newGuest(t)
	for want, i := range map[string]Interface{
		"the bridge nobr0":                            {Kind: "veth", Link: "nobr0", Name: "eth0"},
		"no address of this family":                   {Kind: "veth", Link: "pvdef0", Name: "eth0", AutoGateway6: true},
		"the interface nodev0":                        {Kind: "macvlan", Link: "nodev0", Name: "eth0"},
		`"vlan" is not a supported kind of interface`: {Kind: "vlan", Name: "eth0"},
	} {
		_, err := h.Attach("bad", g.pid, []Interface{{Kind: "veth", Name: "first"}, i})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "making the interface eth0") {
			t.Errorf("%v; want %s", err, want)
		}
	}
	if _, err := h.AttachPool("none", Member{Container: "x"}, g.pid); err == nil || !strings.Contains(err.Error(), "no pool none") {
		t.Errorf("%v", err)
	}
	if names := left(t); len(names) != 1 || names[0] != "pvdef0" {
		t.Errorf("left: %v", names)
	}
}

func TestPoolGivesEachItsOwn(t *testing.T) {
	h := &Host{pools: map[string]*pool{}}
	p := Pool{Name: "net0", Bridge: "b", Subnet: prefix("10.1.1.0/29"), Gateway: addr("10.1.1.5")}
	members := []Member{{Container: "a"}, {Container: "fixed", Address: addr("10.1.1.6")}, {Container: "c"}, {Container: "d"}, {Container: "e"}}
	if err := h.AddPool(p, members, []netip.Addr{addr("10.1.1.2")}); err != nil {
		t.Fatal(err)
	}
	q := h.pools["net0"]
	for c, want := range map[string]string{"a": "10.1.1.1", "fixed": "10.1.1.6", "c": "10.1.1.3", "d": "10.1.1.4"} {
		if got := q.given[c].String(); got != want {
			t.Errorf("%s has %s, want %s", c, got, want)
		}
	}
	if a, ok := q.given["e"]; ok {
		t.Errorf("e has %s of a pool that is used up", a)
	}
	if _, _, err := q.lease(Member{Container: "e"}, ""); err == nil || !strings.Contains(err.Error(), "no address left in 10.1.1.0/29") {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"10.1.1.5", "10.1.2.1", "10.1.1.7", "10.1.1.0"} {
		if _, _, err := q.lease(Member{Container: "x", Address: addr(bad)}, ""); err == nil {
			t.Errorf("the pool gave %s", bad)
		}
	}
}

// TestPoolOfTheNextRevision checks that containers that go on keep their addresses, and that
// nobody else gets them.
func TestPoolOfTheNextRevision(t *testing.T) {
	h := &Host{pools: map[string]*pool{}}
	p := Pool{Name: "net0", Bridge: "b", Subnet: prefix("10.1.1.0/29"), Gateway: addr("10.1.1.1"), NAT: true}
	add := func(p Pool, members ...Member) *pool {
		t.Helper()
		if err := h.AddPool(p, members, nil); err != nil {
			t.Fatal(err)
		}
		return h.pools["net0"]
	}
	q := add(p, Member{Container: "a"}, Member{Container: "b"}, Member{Container: "c"})
	q.nat = true
	for range 2 {
		q = add(p, Member{Container: "0"}, Member{Container: "c"}, Member{Container: "asks", Address: addr("10.1.1.4")}, Member{Container: "b"})
		for c, want := range map[string]string{"0": "10.1.1.2", "b": "10.1.1.3", "c": "10.1.1.4"} {
			if got := q.given[c].String(); got != want || !q.nat {
				t.Errorf("%s has %s, want %s; translated %v", c, got, want, q.nat)
			}
		}
	}
	if _, _, err := q.lease(Member{Container: "asks", Address: addr("10.1.1.4")}, ""); err == nil || !strings.Contains(err.Error(), "10.1.1.4 is that of container c") {
		t.Errorf("an address in use: %v", err)
	}
	p.Bridge = "other"
	if q = add(p, Member{Container: "c"}); q.given["c"] != addr("10.1.1.2") || q.nat {
		t.Errorf("another pool of the name gives %s", q.given["c"])
	}
}

// TestContainersLeaseNothing takes by name what a container in the device's network
// could: nobody else's address must be gone for it.
func TestContainersLeaseNothing(t *testing.T) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: "@pantavisor/address/b/10.1.1.2"}); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "leases")
	h := &Host{pools: map[string]*pool{}}
	if err := h.AddPool(Pool{Name: "net0", Bridge: "b", Subnet: prefix("10.1.1.0/29"), Gateway: addr("10.1.1.1")}, nil, nil); err != nil {
		t.Fatal(err)
	}
	a, f, err := h.pools["net0"].lease(Member{Container: "c", Address: addr("10.1.1.2")}, dir)
	if err != nil || a != addr("10.1.1.2") {
		t.Fatalf("%v, %v", a, err)
	}
	if _, _, err := h.pools["net0"].lease(Member{Container: "c", Address: addr("10.1.1.2")}, dir); !errors.Is(err, errTaken) {
		t.Errorf("leased twice: %v", err)
	}
	dropLeases(dir)
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("a lease that is held was dropped: %v", entries)
	}
	endLease(f)
	if _, err := os.Lstat(dir); err == nil {
		t.Error("the directory of the leases is left")
	}
}

// TestLeasesUnderWay has many take and give one address at the same time.
func TestLeasesUnderWay(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "leases")
	var holders, had atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				f, err := lease(dir, "b", addr("10.1.1.2"))
				if errors.Is(err, errTaken) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if n := holders.Add(1); n != 1 {
					t.Errorf("%d hold the address", n)
				}
				had.Add(1)
				holders.Add(-1)
				endLease(f)
			}
		})
	}
	wg.Wait()
	if had.Load() == 0 {
		t.Error("nobody got the address")
	}
}

func TestBadPools(t *testing.T) {
	h := &Host{pools: map[string]*pool{}}
	for _, p := range []Pool{
		{Name: "x", Bridge: "", Subnet: prefix("10.1.1.0/29"), Gateway: addr("10.1.1.1")},
		{Name: "x", Bridge: "b", Subnet: prefix("10.1.1.0/29"), Gateway: addr("10.2.1.1")},
		{Name: "x", Bridge: "b", Subnet: prefix("fd00::/64"), Gateway: addr("fd00::1")},
	} {
		if err := h.AddPool(p, nil, nil); err == nil || !strings.Contains(err.Error(), "pool x") {
			t.Errorf("%+v: %v", p, err)
		}
	}
}

func TestParseMAC(t *testing.T) {
	m, err := ParseMAC("02:00:0a:00:03:02", "")
	if err != nil || net.HardwareAddr(m).String() != "02:00:0a:00:03:02" {
		t.Errorf("%v, %v", m, err)
	}
	one, _ := ParseMAC("00:16:3e:xx:xx:xx", "a")
	again, _ := ParseMAC("00:16:3e:xx:xx:xx", "a")
	other, err := ParseMAC("00:16:3e:xx:xx:xx", "b")
	if err != nil || string(one) != string(again) || string(one) == string(other) || string(one[:3]) != "\x00\x16\x3e" {
		t.Errorf("%x, %x, %x, %v", one, again, other, err)
	}
	for _, bad := range []string{"", "02", "02:00:0a:00:03:0", "02:00:0a:00:03:0g", "02:00:0a:00:03:02:01", "0200:0a:00:03:02x"} {
		if m, err := ParseMAC(bad, ""); err == nil {
			t.Errorf("%q became %x", bad, m)
		}
	}
}

func TestCheckName(t *testing.T) {
	for name, want := range map[string]bool{"eth0": true, "a.b-c": true, "": false, "..": false, "a/b": false, "sixteen-letters-": false, "a b": false} {
		if err := CheckName(name); (err == nil) != want {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestLast(t *testing.T) {
	for p, want := range map[string]string{"10.1.1.9/24": "10.1.1.255", "10.1.1.0/29": "10.1.1.7", "10.0.0.0/8": "10.255.255.255", "1.2.3.4/32": "1.2.3.4"} {
		if got := last(prefix(p)).String(); got != want {
			t.Errorf("last(%s) = %s, want %s", p, got, want)
		}
	}
}

func FuzzAttributes(f *testing.F) {
	m := newMessage(0, 0, nil).text(1, "x").word(2, 3)
	f.Add(m.b[unix.SizeofNlMsghdr:])
	f.Fuzz(func(t *testing.T, data []byte) {
		attrs(data, func(_ uint16, v []byte) { attrs(v, func(uint16, []byte) {}) })
		parseLink(data)
	})
}

package network

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
)

func ack(t *testing.T, mods ...dhcpv4.Modifier) *nclient4.Lease {
	t.Helper()
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{
		dhcpv4.WithYourIP(net.IPv4(10, 0, 0, 5)), dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithRouter(net.IPv4(10, 0, 0, 1)),
		dhcpv4.WithDNS(net.IPv4(10, 0, 0, 53)), dhcpv4.WithLeaseTime(800),
	}, mods...)...)
	if err != nil {
		t.Fatal(err)
	}
	return &nclient4.Lease{Offer: m, ACK: m, CreationTime: time.Unix(1000, 0)}
}

func TestNewLease(t *testing.T) {
	l, err := newLease(ack(t))
	if err != nil {
		t.Fatal(err)
	}
	if l.Prefix.String() != "10.0.0.5/24" || l.Gateway.String() != "10.0.0.1" || l.DNS[0].String() != "10.0.0.53" {
		t.Errorf("%+v", l)
	}
	if l.renew != 400*time.Second || l.rebind != 700*time.Second || l.expire != 800*time.Second {
		t.Errorf("times %v %v %v", l.renew, l.rebind, l.expire)
	}
	odd, err := newLease(ack(t, dhcpv4.WithOption(dhcpv4.Option{Code: dhcpv4.OptionRenewTimeValue, Value: dhcpv4.Duration(9000 * time.Second)}),
		dhcpv4.WithOption(dhcpv4.Option{Code: dhcpv4.OptionRebindingTimeValue, Value: dhcpv4.Duration(8000 * time.Second)})))
	if err != nil || odd.renew >= odd.rebind || odd.rebind >= odd.expire {
		t.Errorf("times out of order are kept: %v %v %v, %v", odd.renew, odd.rebind, odd.expire, err)
	}
	if _, err := newLease(ack(t, dhcpv4.WithYourIP(net.IPv4zero))); err == nil {
		t.Error("a lease without address")
	}
}

// TestZerosCountAsMissing walks the fields of an answer that servers fill with zeros, and
// times out of order, with which the client would ask all the time.
func TestZerosCountAsMissing(t *testing.T) {
	t.Parallel()
	seconds := func(code dhcpv4.OptionCode, n int) dhcpv4.Modifier {
		return dhcpv4.WithOption(dhcpv4.Option{Code: code, Value: dhcpv4.Duration(time.Duration(n) * time.Second)})
	}
	t1, t2, whole := dhcpv4.OptionRenewTimeValue, dhcpv4.OptionRebindingTimeValue, dhcpv4.OptionIPAddressLeaseTime
	for name, c := range map[string]struct {
		mods                  []dhcpv4.Modifier
		renew, rebind, expire int // seconds
	}{
		"T1":        {[]dhcpv4.Modifier{seconds(t1, 0)}, 400, 700, 800},
		"T2":        {[]dhcpv4.Modifier{seconds(t2, 0)}, 400, 700, 800},
		"both":      {[]dhcpv4.Modifier{seconds(t1, 0), seconds(t2, 0)}, 400, 700, 800},
		"lease":     {[]dhcpv4.Modifier{seconds(whole, 0)}, 1800, 3150, 3600},
		"all":       {[]dhcpv4.Modifier{seconds(t1, 0), seconds(t2, 0), seconds(whole, 0)}, 1800, 3150, 3600},
		"T2 of 1":   {[]dhcpv4.Modifier{seconds(t2, 1)}, 400, 700, 800},
		"both of 1": {[]dhcpv4.Modifier{seconds(t1, 1), seconds(t2, 1)}, 400, 700, 800},
		"no end":    {[]dhcpv4.Modifier{seconds(whole, 1<<32-1)}, 1<<31 - 1, 3758096383, 1<<32 - 1},
	} {
		l, err := newLease(ack(t, c.mods...))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := [3]int{int(l.renew / time.Second), int(l.rebind / time.Second), int(l.expire / time.Second)}
		if want := [3]int{c.renew, c.rebind, c.expire}; got != want {
			t.Errorf("%s: T1, T2 and the end at %v; want %v", name, got, want)
		}
	}
	l, err := newLease(ack(t, dhcpv4.WithRouter(net.IPv4zero), dhcpv4.WithDNS(net.IPv4zero, net.IPv4(10, 0, 0, 53))))
	if err != nil || l.Gateway.IsValid() || len(l.DNS) != 1 || l.DNS[0].String() != "10.0.0.53" {
		t.Errorf("addresses of zeros: gateway %v, name servers %v, %v", l.Gateway, l.DNS, err)
	}
}

// TestOptionText: texts may have NUL bytes behind them (RFC 2132 section 2).
func TestOptionText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"home.arpa": "home.arpa", "home.arpa\x00": "home.arpa", "home.arpa\x00\x00": "home.arpa", "\x00": "", "": "",
	} {
		l, err := newLease(ack(t, dhcpv4.WithOption(dhcpv4.OptDomainName(text))))
		if err != nil || l.Domain != want {
			t.Errorf("%q is read as %q, %v; want %q", text, l.Domain, err, want)
		}
	}
}

func TestClasslessRoutesReplaceTheRouter(t *testing.T) {
	_, dest, _ := net.ParseCIDR("192.0.2.0/24")
	l, err := newLease(ack(t, dhcpv4.WithOption(dhcpv4.OptClasslessStaticRoute(&dhcpv4.Route{Dest: dest, Router: net.IPv4(10, 0, 0, 9)}))))
	if err != nil {
		t.Fatal(err)
	}
	want := []route{{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParseAddr("10.0.0.9")}}
	if d := cmp.Diff(want, l.routes(), byText, byPrefix); d != "" {
		t.Error(d)
	}
}

func TestPhases(t *testing.T) {
	l, err := newLease(ack(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		age, again time.Duration
		want       phase
	}{
		{0, 400 * time.Second, bound}, {400 * time.Second, 150 * time.Second, renewing}, {690 * time.Second, 10 * time.Second, renewing},
		{700 * time.Second, 60 * time.Second, rebinding}, {790 * time.Second, 10 * time.Second, rebinding}, {800 * time.Second, 0, expired},
	} {
		if p, again := l.at(l.got.Add(c.age)); p != c.want || again != c.again {
			t.Errorf("at %v: %v, again in %v; want %v, %v", c.age, p, again, c.want, c.again)
		}
	}
}

// fakeTime lets sleeps pass at once.
type fakeTime struct{ t time.Time }

func (f *fakeTime) now() time.Time { return f.t }

func (f *fakeTime) sleep(_ context.Context, d time.Duration) { f.t = f.t.Add(d) }

// script is a server that behaves as told and writes down what it is asked.
type script struct {
	t       *testing.T
	clock   *fakeTime
	cancel  context.CancelFunc
	extends []error // one an extension; nil grants it
	log     []string
}

func (s *script) lease() *lease {
	raw := ack(s.t)
	raw.CreationTime = s.clock.now()
	l, err := newLease(raw)
	if err != nil {
		s.t.Fatal(err)
	}
	return l
}

func (s *script) request(context.Context) (*lease, error) {
	s.log = append(s.log, "request")
	if len(s.log) > 1 && len(s.extends) == 0 {
		s.cancel()
		return nil, errors.New("over")
	}
	return s.lease(), nil
}

func (s *script) extend(_ context.Context, _ *lease, how phase) (*lease, error) {
	s.log = append(s.log, map[phase]string{renewing: "renew", rebinding: "rebind"}[how])
	if len(s.extends) == 0 {
		return nil, errors.New("silence")
	}
	err := s.extends[0]
	s.extends = s.extends[1:]
	if err != nil {
		return nil, err
	}
	return s.lease(), nil
}

func runScript(t *testing.T, extends ...error) (*script, []string) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := &script{t: t, clock: &fakeTime{time.Unix(0, 0)}, cancel: cancel, extends: extends}
	var leases []string
	runDHCP(ctx, s, s.clock, func(l *lease) {
		if l == nil {
			leases = append(leases, "none")
			return
		}
		leases = append(leases, l.Prefix.String())
	}, t.Logf)
	return s, leases
}

func TestLeaseIsRenewedThenLost(t *testing.T) {
	s, leases := runScript(t, nil, nil)
	if d := cmp.Diff([]string{"10.0.0.5/24", "10.0.0.5/24", "10.0.0.5/24", "none"}, leases); d != "" {
		t.Error(d)
	}
	got := strings.Join(s.log, " ")
	if !strings.HasPrefix(got, "request renew renew renew renew") || !strings.Contains(got, "rebind rebind request") {
		t.Errorf("asked: %s", got)
	}
}

func TestRefusalStartsAnew(t *testing.T) {
	raw := ack(t)
	s, leases := runScript(t, &nclient4.ErrNak{Offer: raw.Offer, Nak: raw.ACK})
	if got := strings.Join(s.log, " "); got != "request renew request" {
		t.Errorf("asked: %s", got)
	}
	if d := cmp.Diff([]string{"10.0.0.5/24", "none"}, leases); d != "" {
		t.Error(d)
	}
}

func TestResolvConf(t *testing.T) {
	a, b := &link{lease: &lease{DNS: addrs("10.0.0.1", "10.0.0.2"), Domain: "home.arpa"}}, &link{lease: &lease{DNS: addrs("10.0.0.3", "10.0.0.4"), Domain: "x\nnameserver 6.6.6.6"}}
	for _, c := range []struct {
		fixed []netip.Addr
		links []*link
		want  string
	}{
		{nil, nil, ""}, {nil, []*link{{}}, ""},
		{nil, []*link{a, b}, "search home.arpa\nnameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n"},
		{nil, []*link{b}, "nameserver 10.0.0.3\nnameserver 10.0.0.4\n"},
		{addrs("192.0.2.1"), []*link{a}, "search home.arpa\nnameserver 192.0.2.1\n"},
	} {
		if d := cmp.Diff(c.want, resolvConf(c.fixed, c.links)); d != "" {
			t.Error(d)
		}
	}
}

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

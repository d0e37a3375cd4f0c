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

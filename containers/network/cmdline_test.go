package network

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
)

var byText = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
var byPrefix = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })

func TestParseCmdline(t *testing.T) {
	static4 := Family{Static, netip.MustParsePrefix("192.168.1.5/24"), netip.MustParseAddr("192.168.1.1")}
	for line, want := range map[string]Options{
		"": {},
		"quiet pvnet_type=ethernet pvnet_ipv4=dhcp pvnet_ipv6=auto": {},
		"pvnet_type=gadget pvnet_address=dhcp":                      {Gadget: true},
		"pvnet_ipv4=off pvnet_ipv6=off":                             {IPv4: Family{Mode: Off}, IPv6: Family{Mode: Off}},
		"pvnet_ipv4=192.168.1.5/255.255.255.0/192.168.1.1":          {IPv4: static4},
		"pvnet_ipv4=192.168.1.5/24/192.168.1.1 pvnet_ifname=enp0s2": {IPv4: static4, Interface: "enp0s2"},
		"pvnet_ipv4=10.0.0.1/8":                                     {IPv4: Family{Mode: Static, Prefix: netip.MustParsePrefix("10.0.0.1/8")}},
		"pvnet_ipv6=fd00::5/64/fd00::1 pvnet_dns=fd00::53,192.0.2.53": {
			IPv6: Family{Static, netip.MustParsePrefix("fd00::5/64"), netip.MustParseAddr("fd00::1")},
			DNS:  []netip.Addr{netip.MustParseAddr("fd00::53"), netip.MustParseAddr("192.0.2.53")},
		},
	} {
		got, problems := ParseCmdline(line)
		if len(problems) > 0 {
			t.Errorf("%q: %v", line, problems)
		}
		if d := cmp.Diff(want, got, byText, byPrefix); d != "" {
			t.Errorf("%q: %s", line, d)
		}
	}
}

func TestParseCmdlineProblems(t *testing.T) {
	for _, word := range []string{
		"pvnet_type=wifi", "pvnet_type=x", "pvnet_ssid=a", "pvnet_new=1", "pvnet_ipv4=1.2.3.4", "pvnet_ipv4=1.2.3.4/33", "pvnet_ipv4=fd00::1/64",
		"pvnet_ipv4=1.2.3.4/255.0.255.0", "pvnet_ipv4=1.2.3.4/24/x", "pvnet_ipv4=1/2/3/4", "pvnet_ipv6=1.2.3.4/24", "pvnet_ipv6=fd00::1/255.0.0.0",
		"pvnet_dns=nobody", "pvnet_ifname=../../x", "pvnet_ifname=" + strings.Repeat("x", 16),
	} {
		got, problems := ParseCmdline(word)
		if len(problems) != 1 || !cmp.Equal(got, Options{}, byText, byPrefix) {
			t.Errorf("%s: %v, %+v", word, problems, got)
		}
	}
	_, problems := ParseCmdline("pvnet_pass=hunter2")
	if len(problems) != 1 || strings.Contains(problems[0].Error(), "hunter2") {
		t.Errorf("the password is shown: %v", problems)
	}
}

// TestMetadataOverCmdline: a file of user metadata is a parameter, and comes after the command line.
func TestMetadataOverCmdline(t *testing.T) {
	dir := t.TempDir()
	for name, value := range map[string]string{
		"pvnet_ipv4": "10.0.0.1/8\n", "pvnet_pass": "hunter2", "pvnet_new": "x", "hostname": "sensor-7", "other": "ignored",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(value), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	o, problems := ParseCmdline("pvnet_ipv4=off pvnet_ifname=eth1")
	problems = append(problems, o.Metadata(dir)...)
	want := Options{Hostname: "sensor-7", Interface: "eth1", IPv4: Family{Mode: Static, Prefix: netip.MustParsePrefix("10.0.0.1/8")}}
	if d := cmp.Diff(want, o, byText, byPrefix); d != "" {
		t.Error(d)
	}
	if text := errors.Join(problems...).Error(); len(problems) != 2 || strings.Contains(text, "hunter2") || !strings.Contains(text, "pvnet_new=x") {
		t.Errorf("%v", problems)
	}
	if problems := o.Metadata(filepath.Join(dir, "none")); problems != nil {
		t.Errorf("without metadata: %v", problems)
	}
	if err := os.WriteFile(filepath.Join(dir, "hostname"), []byte("a b"), 0o644); err != nil {
		t.Fatal(err)
	}
	if problems := o.Metadata(dir); len(problems) != 3 || o.Hostname != "sensor-7" {
		t.Errorf("%v, %q", problems, o.Hostname)
	}
}

// TestHostnameIsTold: in each request of a lease.
func TestHostnameIsTold(t *testing.T) {
	for _, name := range []string{"", "sensor-7"} {
		m, err := dhcpv4.New(wireClient{hostname: name}.named)
		if err != nil || m.HostName() != name {
			t.Errorf("%q: %q, %v", name, m.HostName(), err)
		}
	}
}

func FuzzParseCmdline(f *testing.F) {
	f.Add("pvnet_ipv4=1.2.3.4/255.255.255.0/1.2.3.1 pvnet_ipv6=fd00::1/64")
	f.Fuzz(func(t *testing.T, line string) {
		o, _ := ParseCmdline(line)
		for _, fam := range []Family{o.IPv4, o.IPv6} {
			if fam.Mode == Static && !fam.Prefix.IsValid() {
				t.Errorf("an invalid fixed address: %+v", fam)
			}
		}
	})
}

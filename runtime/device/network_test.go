package device

import (
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/revision/manifest"
)

// TestPoolOfDevice runs containers in an address pool of device.json. The bridge's
// name is the test's own, and so is its range.
func TestPoolOfDevice(t *testing.T) {
	d := newDevice(t)
	bridge := "pvt" + strconv.Itoa(os.Getpid())
	if err := d.st.Set("device.json", []byte(`{"groups":[{"name":"app","status_goal":"STARTED","restart_policy":"container"}],
		"network":{"pools":{"net0":{"type":"bridge","bridge":"`+bridge+`","subnet":"10.255.77.0/24","gateway":"10.255.77.1","nat":false}}}}`)); err != nil {
		t.Fatal(err)
	}
	d.add("one", "app", "/sbin/init stay net:", map[string]any{"network": map[string]any{"pool": "net0"}})
	d.add("two", "app", "/sbin/init stay net:", map[string]any{"network": map[string]any{"mode": "pool", "pool": "net0", "ip": "10.255.77.9", "hostname": "second"}})
	d.add("lost", "app", "/sbin/init stay net:", map[string]any{"network": map[string]any{"pool": "nopool"}})
	d.add("both", "app", "/sbin/init stay net:", map[string]any{"network": map[string]any{"pool": "net0"}}, "lxc.net.0.type = veth")
	before := d.traces()
	d.boot()
	list := d.await(map[string]string{"one": "STARTED", "two": "STARTED", "lost": "STOPPED", "both": "STOPPED"})
	for name, want := range map[string]string{"lost": "no pool nopool", "both": "lxc.net.0.type is veth"} {
		if got := list[name].StatusReason; !strings.Contains(got, want) {
			t.Errorf("%s stopped because of %q, want %q", name, got, want)
		}
	}
	// "both" comes first in the order of names and keeps its place.
	one, two := d.console("one")["net:"], d.console("two")["net:"]
	if !strings.Contains(one, "eth0 true 02:00:0a:ff:4d:03 [10.255.77.3/24]") {
		t.Errorf("one has %s", one)
	}
	if !strings.Contains(two, "[10.255.77.9/24]") {
		t.Errorf("two has %s", two)
	}
	d.off()
	d.same(before)
	if _, err := net.InterfaceByName(bridge); err == nil {
		t.Errorf("the bridge %s is left", bridge)
	}
}

func TestMaskBits(t *testing.T) {
	for text, want := range map[string]int{"255.255.255.0": 24, "0.0.0.0": 0, "255.255.255.255": 32, "255.255.254.0": 23} {
		if got, ok := maskBits(text); !ok || got != want {
			t.Errorf("%s: %d, %v", text, got, ok)
		}
	}
	for _, bad := range []string{"", "24", "255.0.255.0", "::"} {
		if got, ok := maskBits(bad); ok {
			t.Errorf("%q is %d", bad, got)
		}
	}
}

func TestMember(t *testing.T) {
	c := &manifest.Container{Name: "a", Network: &manifest.Network{Mode: "pool", Pool: "p", IP: "10.0.0.1", MAC: "02:00:00:00:00:01"}}
	m, ok := member(c)
	if !ok || m.Pool != "p" || m.Address.String() != "10.0.0.1" || len(m.MAC) != 6 || m.Container != "a" {
		t.Errorf("%+v, %v", m, ok)
	}
	if _, ok := member(&manifest.Container{Network: &manifest.Network{Mode: "none"}}); ok {
		t.Error("a container without pool is a member")
	}
}

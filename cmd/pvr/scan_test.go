package main

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/revision/remote/scan"
)

// The text is that of the manual: pvr device scan.
func TestDescribe(t *testing.T) {
	var b bytes.Buffer
	describe(&b, []scan.Device{
		{ID: "63593333a2ebef000a2fd62e", Challenge: "plainly-dynamic-wombat", Hub: "https://api.pantahub.com:443", Host: "localhost.local.",
			IPv6: []netip.Addr{netip.MustParseAddr("fe80::1b26:73e:24d7:91a9")}, Port: 22},
		{ID: "5b0aa4363c6f7200095b2566", Hub: "https://api.pantahub.com:443", Host: "linux.local.",
			IPv4: []netip.Addr{netip.MustParseAddr("192.168.178.97")}, Port: 22},
	})
	want := `	ID: 63593333a2ebef000a2fd62e (unclaimed)
	Host: localhost.local.
	IPv4: []
	IPv6: [fe80::1b26:73e:24d7:91a9]
	Port: 22
	Claim Cmd: pvr claim -c plainly-dynamic-wombat https://api.pantahub.com:443/devices/63593333a2ebef000a2fd62e
	ID: 5b0aa4363c6f7200095b2566 (owned)
	Host: linux.local.
	IPv4: [192.168.178.97]
	IPv6: []
	Port: 22
	Pantahub WWW: https://hub.pantacor.com/u/_/devices/5b0aa4363c6f7200095b2566
	PVR Clone: https://api.pantahub.com:443/trails/5b0aa4363c6f7200095b2566
Pantavisor devices detected in network: 2 (see above for details)
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
}

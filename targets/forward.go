package targets

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// Forward is a port of the host whose connections lead to a port of the emulated device.
type Forward struct {
	Protocol string     // tcp or udp
	Address  netip.Addr // of the host
	Host     uint16     // port of the host
	Device   uint16     // port of the device
}

const forwardForm = "want [ADDRESS:]PORT:DEVICEPORT[/udp], for example 8080:80 or 0.0.0.0:8080:80"

// ParseForward parses [ADDRESS:]PORT:DEVICEPORT[/tcp|/udp]. The address, one of IPv4, is by
// default 127.0.0.1: the port is for this machine only. An error is of kind BadInput.
func ParseForward(text string) (f Forward, err error) {
	rest, protocol, given := strings.Cut(text, "/")
	if f.Protocol = "tcp"; given {
		f.Protocol = protocol
	}
	words := strings.Split(rest, ":")
	if len(words) == 2 {
		words = append([]string{"127.0.0.1"}, words...)
	}
	if len(words) != 3 || f.Protocol != "tcp" && f.Protocol != "udp" {
		return f, fault.New(fault.BadInput, "%q is not a port forward: %s", text, forwardForm)
	}
	if f.Address, err = netip.ParseAddr(words[0]); err != nil || !f.Address.Is4() {
		return f, fault.New(fault.BadInput, "%q is not a port forward: %q is not an IPv4 address; %s", text, words[0], forwardForm)
	}
	for i, port := range []*uint16{&f.Host, &f.Device} {
		n, err := strconv.ParseUint(words[i+1], 10, 16)
		if err != nil || n == 0 {
			return f, fault.New(fault.BadInput, "%q is not a port forward: %q is not a port from 1 to 65535; %s", text, words[i+1], forwardForm)
		}
		*port = uint16(n)
	}
	return f, nil
}

// String returns the forward in the form that [ParseForward] takes.
func (f Forward) String() string {
	return fmt.Sprintf("%v:%d:%d/%s", f.Address, f.Host, f.Device, f.Protocol)
}

// forwards checks the forwards of a machine.
func (r checker) forwards(at string, e Emulator) {
	used := map[string]bool{}
	for i, text := range e.Forward {
		where := fmt.Sprintf("%s.forward[%d]", at, i)
		f, err := ParseForward(text)
		key := fmt.Sprint(f.Protocol, f.Host)
		switch {
		case err != nil:
			r.Wrong(where, "%v", err)
		case used[key]:
			r.Wrong(where, "port %d/%s of the host is there twice", f.Host, f.Protocol)
		case e.Network == "none":
			r.Wrong(where, "the machine has no network: leave forward out, or network: none")
		}
		used[key] = true
	}
}

// Forwards returns the machine's port forwards, which the target's check has accepted.
func (e *Emulator) Forwards() (list []Forward) {
	for _, text := range e.Forward {
		if f, err := ParseForward(text); err == nil {
			list = append(list, f)
		}
	}
	return list
}

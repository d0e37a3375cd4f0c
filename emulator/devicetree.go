package emulator

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/u-root/u-root/pkg/dt"

	"github.com/pantavisor/pantavisor/formats/devicetree"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/targets"
)

// enablePorts writes a copy of a device tree in which the serial ports are enabled and not
// joined to other devices: that of a Pi with Bluetooth has one that is not a terminal, and the
// Pi 2 has no connector for its second one.
func enablePorts(to, from string, ports []targets.SerialPort) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return fault.Wrap(fault.IO, err, "reading the machine's device tree")
	}
	out, err := withPorts(data, ports)
	if err != nil {
		return fault.Wrap(fault.BadInput, err, "enabling the serial ports in the device tree %s", from)
	}
	return fault.Wrap(fault.IO, os.WriteFile(to, out, 0o600), "writing the machine's device tree")
}

// withPorts returns a device tree in which the ports are enabled.
func withPorts(data []byte, ports []targets.SerialPort) ([]byte, error) {
	tree, err := devicetree.Read(data)
	if err != nil {
		return nil, err
	}
	for _, p := range ports {
		n := node(tree.RootNode, p.Node)
		if n == nil {
			return nil, fmt.Errorf("it has no %s", p.Node)
		}
		n.Children = nil
		n.Properties = slices.DeleteFunc(n.Properties, func(p dt.Property) bool { return p.Name == "status" })
		n.Properties = append(n.Properties, dt.Property{Name: "status", Value: []byte("okay\x00")})
	}
	var out bytes.Buffer
	_, err = tree.Write(&out)
	return out.Bytes(), err
}

// node returns the node with a path, nil when there is none.
func node(n *dt.Node, path string) *dt.Node {
	for name := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		at := slices.IndexFunc(n.Children, func(c *dt.Node) bool { return c.Name == name })
		if at < 0 {
			return nil
		}
		n = n.Children[at]
	}
	return n
}

package emulator

import (
	"bytes"
	"os"
	"slices"
	"strings"

	"github.com/u-root/u-root/pkg/dt"

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
	tree, err := dt.ReadFDT(bytes.NewReader(data))
	if err != nil {
		return fault.Wrap(fault.BadInput, err, "reading the device tree %s", from)
	}
	for _, p := range ports {
		n := node(tree.RootNode, p.Node)
		if n == nil {
			return fault.New(fault.BadInput, "enabling the serial ports: the device tree %s has no %s", from, p.Node)
		}
		n.Children = nil
		n.Properties = slices.DeleteFunc(n.Properties, func(p dt.Property) bool { return p.Name == "status" })
		n.Properties = append(n.Properties, dt.Property{Name: "status", Value: []byte("okay\x00")})
	}
	var out bytes.Buffer
	if _, err := tree.Write(&out); err != nil {
		return fault.Wrap(fault.Internal, err, "writing the machine's device tree")
	}
	return fault.Wrap(fault.IO, os.WriteFile(to, out.Bytes(), 0o600), "writing the machine's device tree")
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

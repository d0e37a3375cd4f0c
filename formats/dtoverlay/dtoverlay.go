// Package dtoverlay applies device tree overlays to a device tree, so that boot loaders need not.
//
// Format: Devicetree Specification 0.4 and the kernel's
// Documentation/devicetree/overlay-notes.rst; __fixups__, __local_fixups__ and __symbols__ are
// those of dtc's option -@ (dtc: Documentation/dt-object-internal.txt).
package dtoverlay

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/u-root/u-root/pkg/dt"

	"github.com/pantavisor/pantavisor/formats/devicetree"
)

// Names that dtc gives.
const (
	symbols     = "__symbols__"
	fixups      = "__fixups__"
	localFixups = "__local_fixups__"
	content     = "__overlay__"
)

// Apply returns a flattened device tree with the overlays applied, in their order. Errors name
// the node or label that is missing.
func Apply(base []byte, overlays ...[]byte) ([]byte, error) {
	to, err := devicetree.Read(base)
	if err != nil {
		return nil, fmt.Errorf("reading the device tree: %w", err)
	}
	for i, o := range overlays {
		from, err := devicetree.Read(o)
		if err != nil {
			return nil, fmt.Errorf("reading overlay %d: %w", i+1, err)
		}
		if err := apply(to.RootNode, from.RootNode); err != nil {
			return nil, fmt.Errorf("applying overlay %d: %w", i+1, err)
		}
	}
	var out bytes.Buffer
	_, err = to.Write(&out)
	return out.Bytes(), err
}

func apply(base, overlay *dt.Node) error {
	if err := shift(overlay, lookUp(overlay, "/"+localFixups), highest(base)); err != nil {
		return err
	}
	if err := resolve(base, overlay); err != nil {
		return err
	}
	places := map[string]string{} // of the fragments in the base
	for _, fragment := range overlay.Children {
		part := child(fragment, content)
		if part == nil {
			continue
		}
		place, err := target(base, fragment)
		if err != nil {
			return fmt.Errorf("%s: %w", fragment.Name, err)
		}
		to := lookUp(base, place)
		if to == nil { // a name with a '/'
			return fmt.Errorf("%s: %q is not a path of the device tree", fragment.Name, place)
		}
		places["/"+fragment.Name+"/"+content] = place
		merge(to, part)
	}
	addSymbols(base, overlay, places)
	return nil
}

// highest returns the largest phandle of a tree.
func highest(n *dt.Node) uint32 {
	high := uint32(0)
	for _, p := range n.Properties {
		if isHandle(p.Name) && len(p.Value) == 4 {
			high = max(high, binary.BigEndian.Uint32(p.Value))
		}
	}
	for _, c := range n.Children {
		high = max(high, highest(c))
	}
	return high
}

func isHandle(name string) bool { return name == "phandle" || name == "linux,phandle" }

// shift moves the phandles of an overlay above those of the base, and with them the
// references inside the overlay, which local lists by node and property.
func shift(n, local *dt.Node, by uint32) error {
	for i, p := range n.Properties {
		if isHandle(p.Name) {
			if err := add(&n.Properties[i], 0, by); err != nil {
				return err
			}
		}
		for _, at := range offsets(local, p.Name) {
			if err := add(&n.Properties[i], int(at), by); err != nil {
				return err
			}
		}
	}
	for _, c := range n.Children {
		if err := shift(c, child(local, c.Name), by); err != nil {
			return err
		}
	}
	return nil
}

// offsets returns where references are in a property.
func offsets(local *dt.Node, property string) []uint32 {
	if local == nil {
		return nil
	}
	var out []uint32
	for _, p := range local.Properties {
		for at := 0; p.Name == property && at+4 <= len(p.Value); at += 4 {
			out = append(out, binary.BigEndian.Uint32(p.Value[at:]))
		}
	}
	return out
}

func add(p *dt.Property, at int, by uint32) error {
	if at < 0 || at+4 > len(p.Value) {
		return fmt.Errorf("property %s has no reference at byte %d", p.Name, at)
	}
	cell := p.Value[at : at+4]
	binary.BigEndian.PutUint32(cell, binary.BigEndian.Uint32(cell)+by)
	return nil
}

// resolve enters the phandles of the base's labels into an overlay.
func resolve(base, overlay *dt.Node) error {
	list := child(overlay, fixups)
	if list == nil {
		return nil
	}
	for _, label := range list.Properties {
		handle, err := handleOf(base, label.Name)
		if err != nil {
			return err
		}
		for _, place := range words(label.Value) {
			if err := enter(overlay, place, handle); err != nil {
				return err
			}
		}
	}
	return nil
}

func handleOf(base *dt.Node, label string) (uint32, error) {
	place := text(child(base, symbols), label)
	if place == "" {
		return 0, fmt.Errorf("the device tree has no label %s: it must be compiled with symbols (dtc -@)", label)
	}
	n := lookUp(base, place)
	if n == nil {
		return 0, fmt.Errorf("label %s: there is no node %s", label, place)
	}
	for _, p := range n.Properties {
		if isHandle(p.Name) && len(p.Value) == 4 {
			return binary.BigEndian.Uint32(p.Value), nil
		}
	}
	handle := highest(base) + 1
	n.Properties = append(n.Properties, dt.PropertyU32("phandle", handle))
	return handle, nil
}

// enter writes a phandle to a place PATH:PROPERTY:OFFSET of an overlay.
func enter(overlay *dt.Node, place string, handle uint32) error {
	parts := strings.Split(place, ":")
	if len(parts) != 3 {
		return fmt.Errorf("%q is not a place PATH:PROPERTY:OFFSET", place)
	}
	at, err := strconv.Atoi(parts[2])
	n := lookUp(overlay, parts[0])
	if err != nil || n == nil {
		return fmt.Errorf("%q is not a place of the overlay", place)
	}
	for i, p := range n.Properties {
		if p.Name != parts[1] {
			continue
		}
		if at < 0 || at+4 > len(p.Value) {
			return fmt.Errorf("%q is outside of the property", place)
		}
		binary.BigEndian.PutUint32(n.Properties[i].Value[at:], handle)
		return nil
	}
	return fmt.Errorf("%q is not a place of the overlay", place)
}

// target returns the path of the node that a fragment changes.
func target(base, fragment *dt.Node) (string, error) {
	if place := text(fragment, "target-path"); place != "" {
		if lookUp(base, place) == nil {
			return "", fmt.Errorf("the device tree has no node %s", place)
		}
		return path.Clean(place), nil
	}
	for _, p := range fragment.Properties {
		if p.Name == "target" && len(p.Value) == 4 {
			if place, ok := find(base, "/", binary.BigEndian.Uint32(p.Value)); ok {
				return place, nil
			}
		}
	}
	return "", fmt.Errorf("it names no node of the device tree as its target")
}

// find returns the path of the node with a phandle.
func find(n *dt.Node, at string, handle uint32) (string, bool) {
	for _, p := range n.Properties {
		if isHandle(p.Name) && len(p.Value) == 4 && binary.BigEndian.Uint32(p.Value) == handle {
			return at, true
		}
	}
	for _, c := range n.Children {
		if place, ok := find(c, path.Join(at, c.Name), handle); ok {
			return place, true
		}
	}
	return "", false
}

// merge puts properties and nodes in place of those with the same names.
func merge(to, from *dt.Node) {
	for _, p := range from.Properties {
		set(to, p)
	}
	for _, c := range from.Children {
		if same := child(to, c.Name); same != nil {
			merge(same, c)
		} else {
			to.Children = append(to.Children, c)
		}
	}
}

func set(n *dt.Node, p dt.Property) {
	for i := range n.Properties {
		if n.Properties[i].Name == p.Name {
			n.Properties[i] = p
			return
		}
	}
	n.Properties = append(n.Properties, p)
}

// addSymbols adds the labels of an overlay to the base, for overlays behind it.
func addSymbols(base, overlay *dt.Node, places map[string]string) {
	own, to := child(overlay, symbols), child(base, symbols)
	if own == nil || to == nil {
		return
	}
	for _, p := range own.Properties {
		place := strings.TrimRight(string(p.Value), "\x00")
		for from, at := range places {
			if rest, ok := strings.CutPrefix(place, from); ok && (rest == "" || rest[0] == '/') {
				set(to, dt.PropertyString(p.Name, path.Join(at, rest)))
			}
		}
	}
}

func child(n *dt.Node, name string) *dt.Node {
	if n == nil {
		return nil
	}
	for _, c := range n.Children {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// lookUp returns the node at an absolute path, nil when there is none.
func lookUp(n *dt.Node, place string) *dt.Node {
	for part := range strings.SplitSeq(strings.Trim(place, "/"), "/") {
		if part != "" {
			n = child(n, part)
		}
	}
	return n
}

// text returns a property with one text, "" when there is none.
func text(n *dt.Node, name string) string {
	if n == nil {
		return ""
	}
	for _, p := range n.Properties {
		if p.Name == name {
			return strings.TrimRight(string(p.Value), "\x00")
		}
	}
	return ""
}

// words returns the texts of a property.
func words(value []byte) []string {
	return strings.Split(strings.TrimRight(string(value), "\x00"), "\x00")
}

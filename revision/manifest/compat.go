package manifest

import (
	"slices"
	"sort"

	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/compat"
)

// bspPart is the name of the BSP as a part.
const bspPart = "bsp"

// declared reads the members provides, requires and conflicts of a part's run.json.
func declared(o *object, part string) compat.Declared {
	d := compat.Declared{
		Provides: terms(o, "provides", compat.ParseProvided), Requires: terms(o, "requires", compat.Parse),
		Conflicts: terms(o, "conflicts", compat.Parse),
	}
	for _, t := range d.Provides {
		if t.Kind == compat.Container && t.Name != part {
			o.at("provides", canon.Value{}).fail("%s: a container provides only itself, container:%s, with its version", t, part)
		}
	}
	return d
}

func terms(o *object, member string, parse func(string) (compat.Term, error)) (out []compat.Term) {
	n, ok := o.member(member)
	if !ok {
		return nil
	}
	for _, e := range n.elems() {
		text, ok := e.v.Text()
		if !ok {
			e.wrong("a string")
			continue
		}
		t, err := parse(text)
		if err != nil {
			e.fail("%v", err)
			continue
		}
		out = append(out, t)
	}
	return out
}

// Compat returns the parts with what they declare, and what follows from the rest: each
// container provides itself and its roles, the BSP its drivers. Check them with
// [compat.Check], together with what is known of the device.
func (s *System) Compat() []compat.Part {
	var parts []compat.Part
	if s.BSP != nil {
		p := compat.Part{Name: bspPart, Declared: s.BSP.Compat, States: []string{compat.Drivers}}
		p.Provides = slices.Concat(p.Provides, s.Drivers.provided())
		parts = append(parts, p)
	}
	for i := range s.Containers {
		c := &s.Containers[i]
		p := compat.Part{Name: c.Name, Declared: c.Compat}
		p.Provides = slices.Clone(p.Provides)
		if !slices.ContainsFunc(p.Provides, func(t compat.Term) bool { return t.Kind == compat.Container }) {
			p.Provides = append(p.Provides, compat.Term{Kind: compat.Container, Name: c.Name})
		}
		for _, role := range c.Roles {
			p.Provides = append(p.Provides, compat.Term{Kind: compat.Role, Name: role})
		}
		parts = append(parts, p)
	}
	return parts
}

// provided returns the drivers that any hardware has.
func (d *Drivers) provided() (out []compat.Term) {
	if d == nil {
		return nil
	}
	names := map[string]bool{}
	for name := range d.All {
		names[name] = true
	}
	for _, section := range d.Special {
		for name := range section {
			names[name] = true
		}
	}
	for name := range names {
		out = append(out, compat.Term{Kind: compat.Driver, Name: name})
	}
	// slices.SortFunc of a struct of this size is 17 KB of the device binary.
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

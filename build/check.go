package build

import "slices"

// A Check is a step that looks at the output of another one. No step that reads that output
// begins before the check has gone well, so that a mistake ends the build early. A check is no
// input of those steps: adding or changing one builds nothing again.
//
// Checks, and what only they need, also run when another step has failed: the build tells all
// that is wrong as far as it is known.
type Check interface {
	Step
	// Checks is the step that is checked, one on which the check depends.
	Checks() Step
}

// Use is how much of a limit is used, as a check found it.
type Use struct {
	// Name is what is limited, for example "partition pvroot".
	Name string `json:"name"`
	// Bytes is its size, Limit the most that it may have.
	Bytes int64 `json:"bytes"`
	Limit int64 `json:"limit"`
	// Limited says what the limit is when the target does not have it as a size.
	Limited string `json:"limited_by,omitempty"`
}

// String is the name, with what the limit is.
func (u Use) String() string {
	if u.Limited == "" {
		return u.Name
	}
	return u.Name + " (" + u.Limited + ")"
}

// Over reports whether there is more than the limit allows.
func (u Use) Over() bool { return u.Bytes > u.Limit }

// Percent returns how much of the limit is used.
func (u Use) Percent() float64 {
	if u.Limit == 0 {
		return 0
	}
	return float64(u.Bytes) * 100 / float64(u.Limit)
}

// Uses records how much of a limit is used, for the build report, also of a step that then fails.
func (w *Work) Uses(u Use) { w.uses = append(w.uses, u) }

// Used returns what Uses recorded.
func (w *Work) Used() []Use { return w.uses }

// graphOf collects the wanted steps with all that they need, and the checks of these.
func (b *Builder) graphOf(wanted []Step) (*graph, error) {
	g, err := newGraph(wanted)
	if err != nil {
		return nil, err
	}
	first := len(g.nodes)
	var checks []*node
	for _, c := range b.Checks {
		if g.byName[c.Checks().Name()] == nil {
			continue
		}
		n, err := g.add(c)
		if err != nil {
			return nil, err
		}
		checks = append(checks, n)
	}
	for _, n := range g.nodes[first:] {
		n.checking = true
	}
	for _, c := range checks {
		g.order(c)
	}
	return g, nil
}

// order lets the steps wait for a check that read the output of the checked one. What the check
// needs itself does not, nor do other checks and what only they need: two checks of one step would
// wait for each other.
func (g *graph) order(check *node) {
	checked := g.byName[check.step.(Check).Checks().Name()]
	needed := map[*node]bool{}
	check.closure(needed)
	for _, n := range g.nodes {
		if !n.checking && !needed[n] && slices.Contains(n.deps, checked) {
			n.after = append(n.after, check)
		}
	}
}

// closure adds a node and all that it needs.
func (n *node) closure(to map[*node]bool) {
	if to[n] {
		return
	}
	to[n] = true
	for _, d := range n.deps {
		d.closure(to)
	}
}

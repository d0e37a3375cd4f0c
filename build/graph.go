package build

import (
	"bytes"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// node is a step in its graph.
type node struct {
	step   Step
	name   string
	deps   []*node
	fields []byte // distinguishes two steps with one name
	// after are checks that must have gone well before the step begins; checking is set for what
	// only checks need.
	after    []*node
	checking bool
}

// graph holds every step once, dependencies before their users.
type graph struct {
	nodes  []*node
	byName map[string]*node
	open   []string // the path from the wanted step to here, for cycles
}

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._+-]*(/[a-z0-9][a-z0-9._+-]*)*$`)

// newGraph collects the wanted steps and all steps that they need. Two steps with one
// name are the same step when their types, fields and dependencies are equal; otherwise
// the graph is invalid.
func newGraph(wanted []Step) (*graph, error) {
	g := &graph{byName: map[string]*node{}}
	for _, s := range wanted {
		if _, err := g.add(s); err != nil {
			return nil, err
		}
	}
	return g, nil
}

func (g *graph) add(s Step) (*node, error) {
	name := s.Name()
	if !nameForm.MatchString(name) {
		return nil, fault.New(fault.Internal, "step name %q: want lower-case words joined by '/'", name)
	}
	if slices.Contains(g.open, name) {
		return nil, fault.New(fault.Internal, "step %s depends on itself: %s", name, strings.Join(append(g.open, name), " -> "))
	}
	old := g.byName[name]
	if old != nil && identical(old.step, s) {
		return old, nil
	}
	g.open = append(g.open, name)
	defer func() { g.open = g.open[:len(g.open)-1] }()
	n, err := g.describe(s, name)
	if err != nil {
		return nil, err
	}
	if old != nil {
		return old, same(old, n)
	}
	g.byName[name] = n
	g.nodes = append(g.nodes, n)
	return n, nil
}

func (g *graph) describe(s Step, name string) (*node, error) {
	n := &node{step: s, name: name}
	for _, d := range s.Deps() {
		dep, err := g.add(d)
		if err != nil {
			return nil, err
		}
		n.deps = append(n.deps, dep)
	}
	own, err := ownInputs(s)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "describing step %s", name)
	}
	n.fields = []byte(keyOf(own))
	return n, nil
}

// same checks that two steps with one name are the same step.
func same(a, b *node) error {
	if bytes.Equal(a.fields, b.fields) && slices.Equal(a.deps, b.deps) {
		return nil
	}
	return fault.New(fault.Internal, "two different steps are named %s: give one of them another name", a.name)
}

// identical compares two steps by identity if their type is comparable.
func identical(a, b Step) bool {
	t := reflect.TypeOf(a)
	return t == reflect.TypeOf(b) && t.Kind() == reflect.Pointer && a == b
}

// Steps returns the wanted steps and all that they need, dependencies before their users. The
// error is that of a graph that cannot be built.
func Steps(wanted ...Step) ([]Step, error) {
	g, err := newGraph(wanted)
	if err != nil {
		return nil, err
	}
	var out []Step
	for _, n := range g.nodes {
		out = append(out, n.step)
	}
	return out, nil
}

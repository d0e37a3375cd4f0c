package images

import (
	"cmp"
	"slices"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/sbom"
)

// supplier is a step that brings in what others have made, or that compiles a program.
type supplier interface {
	build.Step
	// Supplies returns the packages in its output; in returns the output of a step that it depends
	// on, or its own.
	Supplies(in func(build.Step) string) ([]sbom.Supply, error)
}

// tooling is a supplier of programs that run on the build machine: they are not in what is built.
type tooling interface {
	supplier
	Tooling()
}

// origins is where the output of a step comes from: what is found upwards of it in the graph.
type origins struct {
	suppliers, tools []supplier
	// needs are the steps whose outputs suppliers read.
	needs []build.Step

	seen map[build.Step]bool
}

// originsOf follows the dependencies of steps. The order is that of the steps' names.
func originsOf(steps ...build.Step) *origins {
	o := &origins{seen: map[build.Step]bool{}}
	for _, s := range steps {
		o.follow(s, false)
	}
	byName := func(a, b supplier) int { return cmp.Compare(a.Name(), b.Name()) }
	slices.SortFunc(o.suppliers, byName)
	slices.SortFunc(o.tools, byName)
	slices.SortFunc(o.needs, func(a, b build.Step) int { return cmp.Compare(a.Name(), b.Name()) })
	return o
}

// follow adds a step and those that it depends on; needed is set below suppliers, which may read them.
func (o *origins) follow(s build.Step, needed bool) {
	if o.seen[s] {
		return
	}
	o.seen[s] = true
	_, tool := s.(tooling)
	from, supplies := s.(supplier)
	switch {
	case tool:
		o.tools = append(o.tools, from)
	case supplies:
		o.suppliers = append(o.suppliers, from)
	}
	if needed = needed || supplies; needed {
		o.needs = append(o.needs, s)
	}
	for _, d := range s.Deps() {
		o.follow(d, needed)
	}
}

// names are those of the suppliers.
func (o *origins) names() []string {
	var out []string
	for _, s := range o.suppliers {
		out = append(out, s.Name())
	}
	return out
}

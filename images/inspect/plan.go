package inspect

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// formPlan is that of the plan of a build.
const formPlan = "plan"

// maxPlan bounds the size of a plan in a file, in bytes.
const maxPlan = 64 << 20

// Plan returns a plan of a build: its steps with their inputs.
func Plan(p *build.Plan) *Node {
	in := &Inside{Form: formPlan}
	for _, s := range p.Steps {
		n := &Node{Name: s.Name, Attributes: []Attribute{{Name: "deps", Value: strings.Join(s.Deps, " ")}}}
		for _, i := range s.Inputs {
			value := i.Value
			if value == "" {
				value = i.Digest
			}
			n.Attributes = append(n.Attributes, Attribute{Name: i.Name, Value: short(value), Derived: strings.HasPrefix(i.Name, "dep/")})
		}
		in.Nodes = append(in.Nodes, n)
	}
	slices.SortStableFunc(in.Nodes, func(a, b *Node) int { return strings.Compare(a.Name, b.Name) })
	return &Node{Name: p.Target, inside: in}
}

// IsPlan reports whether a node is a plan.
func (n *Node) IsPlan() bool { return n.inside != nil && n.inside.Form == formPlan }

// document opens a file that is a plan or the document of a revision; nil for another one.
func (r *Reader) document(name string) (*Node, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "opening what to compare")
	}
	defer f.Close()
	var start [1]byte
	switch _, err := io.ReadFull(f, start[:]); {
	case err != nil && !errors.Is(err, io.EOF):
		return nil, fault.Wrap(fault.IO, err, "reading %s", name)
	case err != nil || start[0] != '{':
		return nil, nil
	}
	text, err := bounded.ReadFile(name, maxPlan)
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "reading %s", name)
	}
	var p build.Plan
	if json.Unmarshal(text, &p) == nil && len(p.Steps) > 0 {
		n := Plan(&p)
		n.Name = filepath.Base(name)
		return n, nil
	}
	n, err := r.State(filepath.Base(name), text)
	if err != nil {
		return nil, nil // any other document
	}
	return n, nil
}

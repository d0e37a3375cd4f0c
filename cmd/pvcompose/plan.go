package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/images/inputs"
	"github.com/pantavisor/pantavisor/internal/spelling"
)

// plan is the graph of a build.
type plan struct {
	Target  string         `json:"target"`
	Outputs []output       `json:"outputs"`
	Steps   []step         `json:"steps"` // dependencies before their users
	Inputs  []inputs.Entry `json:"inputs"`
}

// output is a file that is made.
type output struct {
	Path string `json:"path"`
	Step string `json:"step"`
}

// step is a unit of work.
type step struct {
	Name  string   `json:"name"`
	Needs []string `json:"needs,omitempty"`
	// Reads are places of the list whose inputs it reads itself.
	Reads []string `json:"reads,omitempty"`
}

// resolve makes the plan of a list.
func (t *tool) resolve(ctx context.Context, l *inputs.List) (*plan, error) {
	if err := l.Digest(ctx); err != nil {
		return nil, err
	}
	c, err := l.Compose(ctx)
	if err != nil {
		return nil, err
	}
	p := &plan{Target: l.Target, Inputs: l.Entries()}
	for _, a := range c.Artefacts {
		p.Outputs = append(p.Outputs, output{a.To, a.Step.Name()})
	}
	return p, p.add(c.Wanted(), c.Artefacts)
}

func (p *plan) add(wanted []build.Step, artefacts []build.Artefact) error {
	for _, a := range artefacts {
		wanted = append(wanted, a.Step)
	}
	all, err := build.Steps(wanted...)
	if err != nil {
		return err
	}
	for _, s := range all {
		one := step{Name: s.Name()}
		for _, d := range s.Deps() {
			one.Needs = append(one.Needs, d.Name())
		}
		if one.Reads, err = p.reads(s); err != nil {
			return err
		}
		p.Steps = append(p.Steps, one)
	}
	return nil
}

// reads lists the inputs that a step reads itself: it says so, or takes files from where they
// are.
func (p *plan) reads(s build.Step) ([]string, error) {
	if r, ok := s.(inputs.Reader); ok {
		return r.Reads(), nil
	}
	sourced, ok := s.(build.Sourced)
	if !ok {
		return nil, nil
	}
	sources, err := sourced.Sources()
	var out []string
	for _, source := range sources {
		for _, in := range p.Inputs {
			if in.Path == source.Path {
				out = append(out, in.Input)
			}
		}
	}
	return out, err
}

func (p *plan) write(w io.Writer) error {
	tab := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tab, "STEP\tREADS\tNEEDS")
	for _, s := range p.Steps {
		fmt.Fprintf(tab, "%s\t%s\t%s\n", s.Name, strings.Join(s.Reads, " "), strings.Join(s.Needs, " "))
	}
	fmt.Fprintln(tab, "\nOUTPUT\tSTEP\t")
	for _, o := range p.Outputs {
		fmt.Fprintf(tab, "%s\t%s\t\n", o.Path, o.Step)
	}
	return tab.Flush()
}

// explanation says how an output is made, or what becomes of an input.
type explanation struct {
	Name string `json:"name"`
	// Steps lead to the output, or from the input to outputs.
	Steps []step `json:"steps"`
	// Inputs are in the output; Outputs have the input.
	Inputs  []string `json:"inputs,omitempty"`
	Outputs []string `json:"outputs,omitempty"`
}

// explain explains an output or an input, all outputs for "".
func (p *plan) explain(name string) ([]explanation, error) {
	var out []explanation
	var known []string
	for _, o := range p.Outputs {
		known = append(known, o.Path)
		if name == "" || name == o.Path {
			out = append(out, p.output(o))
		}
	}
	for _, in := range p.Inputs {
		known = append(known, in.Input)
		if name == in.Input {
			out = append(out, p.input(in.Input))
		}
	}
	if len(out) == 0 {
		return nil, spelling.Unknown("output or input", name, known)
	}
	return out, nil
}

func (p *plan) output(o output) explanation {
	e := explanation{Name: o.Path}
	needed := map[string]bool{o.Step: true}
	for _, s := range slices.Backward(p.Steps) {
		if !needed[s.Name] {
			continue
		}
		for _, n := range s.Needs {
			needed[n] = true
		}
		e.Steps = append(e.Steps, s)
		e.Inputs = append(e.Inputs, s.Reads...)
	}
	slices.Reverse(e.Steps)
	slices.Sort(e.Inputs)
	e.Inputs = slices.Compact(e.Inputs)
	return e
}

func (p *plan) input(name string) explanation {
	e := explanation{Name: name}
	reached := map[string]bool{}
	for _, s := range p.Steps {
		if slices.Contains(s.Reads, name) || slices.ContainsFunc(s.Needs, func(n string) bool { return reached[n] }) {
			reached[s.Name] = true
			e.Steps = append(e.Steps, s)
		}
	}
	for _, o := range p.Outputs {
		if reached[o.Step] {
			e.Outputs = append(e.Outputs, o.Path)
		}
	}
	return e
}

// text is the explanation for people.
func (e explanation) text() string {
	var b strings.Builder
	fmt.Fprintln(&b, e.Name)
	for _, s := range e.Steps {
		fmt.Fprintf(&b, "  step %s", s.Name)
		if len(s.Reads) > 0 {
			fmt.Fprintf(&b, " reads %s", strings.Join(s.Reads, ", "))
		}
		fmt.Fprintln(&b)
	}
	if len(e.Inputs) > 0 {
		fmt.Fprintf(&b, "  inputs: %s\n", strings.Join(e.Inputs, ", "))
	}
	if len(e.Outputs) > 0 {
		fmt.Fprintf(&b, "  outputs: %s\n", strings.Join(e.Outputs, ", "))
	}
	return b.String()
}

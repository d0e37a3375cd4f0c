package build

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// Plan is a resolved graph: what a build would do, determined without running a step.
type Plan struct {
	Target string     `json:"target"`
	Steps  []PlanStep `json:"steps"` // dependencies before their users
	// Origins say where files that enter the steps came from; the caller knows.
	Origins []Origin `json:"origins,omitempty"`
}

// Origin is where a file or directory came from.
type Origin struct {
	Name string `json:"name"` // as in sources: "config/x64-uefi/pantavisor.config"
	From string `json:"from"` // for people: "workspace"
	Path string `json:"path"` // on this machine
	// Over is the file or directory of the same name that is not used, because of this one.
	Over string `json:"over,omitempty"`
}

// PlanStep is one step of a plan.
type PlanStep struct {
	Name string   `json:"name"`
	Type string   `json:"type"` // Go type of the step
	Deps []string `json:"deps,omitempty"`
	// State is cached (nothing to do), ready (would run) or pending (its key
	// depends on the output of a step that would run; it may yet be cached).
	State  string  `json:"state"`
	Key    string  `json:"key,omitempty"` // empty while pending
	Output string  `json:"output,omitempty"`
	Why    string  `json:"why,omitempty"`
	Bytes  int64   `json:"bytes,omitempty"`
	Inputs []Input `json:"inputs"` // digest empty: pending
	// Replaces are files of the step's inputs that others are used in place of, as far as
	// they are known before it runs.
	Replaces []Replacement `json:"replaces,omitempty"`
}

// cachedState is the state of a step whose output is in the cache.
const cachedState = "cached"

// Plan resolves the graph of the wanted steps.
func (b *Builder) Plan(ctx context.Context, wanted ...Step) (*Plan, error) {
	g, err := b.graphOf(wanted)
	if err != nil {
		return nil, err
	}
	p := &Plan{Target: b.Target}
	known := map[string]*PlanStep{}
	made := func(s Step) string {
		if k := known[s.Name()]; k != nil && k.State == cachedState {
			return b.Cache.out(k.Key)
		}
		return ""
	}
	for _, n := range g.nodes {
		s, err := b.planStep(n, known)
		if err == nil {
			s.Replaces, err = n.replaced(ctx, made)
		}
		if err != nil {
			return nil, fault.Wrap(fault.Internal, err, "planning step %s", n.name)
		}
		known[n.name] = s
		p.Steps = append(p.Steps, *s)
	}
	return p, b.Cache.stats.Save()
}

func (b *Builder) planStep(n *node, known map[string]*PlanStep) (*PlanStep, error) {
	inputs, err := b.knownInputs(n)
	if err != nil {
		return nil, err
	}
	s := &PlanStep{Name: n.name, Type: inputs[0].Value, State: "ready"}
	for _, d := range n.deps {
		s.Deps = append(s.Deps, d.name)
		inputs = append(inputs, Input{Name: "dep/" + d.name, Digest: known[d.name].Output})
		if known[d.name].Output == "" {
			s.State = "pending"
		}
	}
	s.Inputs = inputs
	if s.State == "pending" {
		return s, nil
	}
	s.Key = keyOf(inputs)
	rec, why := b.Cache.lookup(s.Key, b.Verify)
	if rec == nil {
		s.Why = b.newKeeper().explain(n.name, inputs, why)
		return s, nil
	}
	s.State, s.Output, s.Bytes = cachedState, rec.Output, rec.Bytes
	return s, nil
}

// formats lists the formats in which a plan can be written.
var formats = []string{"text", "json", "dot"}

// Write prints the plan as text, json or dot.
func (p *Plan) Write(w io.Writer, format string) error {
	switch format {
	case "text", "":
		return p.text(w)
	case "json":
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(p)
	case "dot":
		return p.dot(w)
	}
	return fault.New(fault.BadInput, "plan format %q: want one of %s", format, strings.Join(formats, ", "))
}

func (p *Plan) text(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "STEP\tSTATE\tKEY\tSIZE\tWHY, OR NEEDS")
	for _, s := range p.Steps {
		note := s.Why
		if note == "" {
			note = needs(s.Deps)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", s.Name, s.State, short(s.Key), sizeText(s.Bytes), note)
	}
	p.replaced(t)
	p.origins(t)
	return t.Flush()
}

// replaced writes a line for each replacement.
func (p *Plan) replaced(w io.Writer) {
	head := "\n"
	for _, s := range p.Steps {
		for _, r := range s.Replaces {
			fmt.Fprintf(w, "%s%s: %s\n", head, s.Name, r)
			head = ""
		}
	}
}

// origins writes where the files came from.
func (p *Plan) origins(w io.Writer) {
	if len(p.Origins) == 0 {
		return
	}
	fmt.Fprintln(w, "\nINPUT\tFROM\tPATH\tIN PLACE OF")
	for _, o := range p.Origins {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", o.Name, o.From, o.Path, o.Over)
	}
}

// needs lists a few dependencies and counts the rest.
func needs(deps []string) string {
	const few = 4
	if len(deps) <= few {
		return strings.Join(deps, " ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(deps[:few-1], " "), len(deps)-few+1)
}

var dotColors = map[string]string{"cached": "palegreen", "ready": "lightsalmon", "pending": "lightgrey"}

func (p *Plan) dot(w io.Writer) error {
	var text strings.Builder
	fmt.Fprintf(&text, "digraph %q {\n\trankdir=LR;\n\tnode [shape=box, style=filled];\n", p.Target)
	for _, s := range p.Steps {
		fmt.Fprintf(&text, "\t%q [fillcolor=%s, tooltip=%q];\n", s.Name, dotColors[s.State], s.State+" "+s.Key)
		for _, d := range s.Deps {
			fmt.Fprintf(&text, "\t%q -> %q;\n", d, s.Name)
		}
	}
	text.WriteString("}\n")
	_, err := io.WriteString(w, text.String())
	return err
}

// short returns the part of a digest that people read.
func short(digest string) string {
	if len(digest) > 12 {
		return digest[:12]
	}
	return digest
}

// Size formats a number of bytes for people.
func Size(n int64) string {
	if n == 0 {
		return "0 B"
	}
	return sizeText(n)
}

// sizeText formats a number of bytes for people; empty for 0.
func sizeText(n int64) string {
	switch {
	case n == 0:
		return ""
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

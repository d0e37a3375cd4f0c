package build

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/spelling"
)

// Reason is why a step would run, or why it ran last.
type Reason struct {
	Step string `json:"step"`
	// Verdict is "never built", "nothing changed", "changed" or "cache entry is gone"
	// (the inputs are unchanged, but the output has to be made again).
	Verdict string `json:"verdict"`
	// Cached reports that the cache holds the output for the current inputs, from an
	// earlier build or from another target.
	Cached  bool      `json:"cached"`
	Changes []Change  `json:"changes,omitempty"` // against the last run
	Last    time.Time `json:"last,omitzero"`     // when the output in use was made
	// Before lists what had changed when the step last ran.
	Before []Change `json:"before,omitempty"`
}

const unchanged = "nothing changed"

// Why compares the named step's current inputs with those that the target last used.
func (b *Builder) Why(ctx context.Context, step string, wanted ...Step) (*Reason, error) {
	plan, err := b.Plan(ctx, wanted...)
	if err != nil {
		return nil, err
	}
	for _, s := range plan.Steps {
		if s.Name == step {
			return b.reason(&s), nil
		}
	}
	return nil, b.unknown(step, plan)
}

// unknown returns the error for a step that is not in the graph.
func (b *Builder) unknown(step string, plan *Plan) error {
	var names []string
	for _, s := range plan.Steps {
		names = append(names, s.Name)
	}
	if near := spelling.Nearest(step, names); len(near) > 0 {
		return fault.New(fault.BadInput, "step %q: not in the graph of %s; did you mean %s?", step, b.Target, strings.Join(near, " or "))
	}
	return fault.New(fault.BadInput, "step %q: not in the graph of %s; \"mage plan %s\" lists its steps", step, b.Target, b.Target)
}

func (b *Builder) reason(s *PlanStep) *Reason {
	k := b.newKeeper()
	why := &Reason{Step: s.Name, Verdict: "never built", Cached: s.State == cachedState}
	last, err := readRecord(k.last(s.Name))
	if err != nil {
		return why
	}
	why.Last = last.Made
	if before, err := readRecord(k.before(s.Name)); err == nil {
		why.Before = diffInputs(before.Inputs, last.Inputs)
	}
	why.Changes = diffInputs(last.Inputs, s.Inputs)
	switch {
	case len(why.Changes) > 0:
		why.Verdict = "changed"
	case why.Cached:
		why.Verdict = unchanged
	default:
		why.Verdict = "cache entry is gone"
	}
	return why
}

// Write prints the reason for people.
func (r *Reason) Write(w io.Writer) error {
	var text strings.Builder
	fmt.Fprintf(&text, "%s: %s", r.Step, r.Verdict)
	if r.Cached && r.Verdict != unchanged {
		text.WriteString("; its output is in the cache already")
	}
	text.WriteString("\n")
	writeChanges(&text, r.Changes)
	if !r.Last.IsZero() {
		fmt.Fprintf(&text, "last made %s", r.Last.Local().Format(time.DateTime))
		if len(r.Before) > 0 {
			text.WriteString(", because of")
		}
		text.WriteString("\n")
		writeChanges(&text, r.Before)
	}
	_, err := io.WriteString(w, text.String())
	return err
}

func writeChanges(w io.Writer, changes []Change) {
	for _, c := range changes {
		fmt.Fprintf(w, "  %s\n    old %s\n    new %s\n", c.Name, side(c.Old, c.OldValue), newSide(c))
	}
}

func newSide(c Change) string {
	if c.Pending {
		return "pending: the step that makes it would run first"
	}
	return side(c.New, c.NewValue)
}

func side(digest, value string) string {
	switch {
	case digest == "":
		return "(absent)"
	case value != "":
		return digest + " " + value
	}
	return digest
}

package build

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Replacement is a group of files that one source gives in place of another's.
type Replacement struct {
	// Files are keys of a revision, or paths in an initrd or archive, sorted.
	Files []string `json:"files"`
	// Of gave them first: a step, or a directory.
	Of string `json:"of"`
	// By gives those that are used: a directory such as vendors/PLATFORM/stepskel, or a
	// reference device.
	By string `json:"by"`
}

// StepReplacement is a replacement with the step in which it happens.
type StepReplacement struct {
	Step string `json:"step"`
	Replacement
}

// Replacing steps join sources of which a later one may replace files of an earlier one.
type Replacing interface {
	// Replaces lists such files, from the sources and from the outputs of the steps that
	// this one needs, directly or not. The function in returns the directory of such an
	// output, "" while it has not been made: what is not known without it is left out.
	Replaces(ctx context.Context, in func(Step) string) ([]Replacement, error)
}

// shownReplaced is the number of files that a line for people names.
const shownReplaced = 8

// String returns the replacement as a line for people.
func (r Replacement) String() string {
	names := strings.Join(r.Files[:min(len(r.Files), shownReplaced)], ", ")
	if more := len(r.Files) - shownReplaced; more > 0 {
		names += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Sprintf("%s replaces %s of %s", r.By, names, r.Of)
}

// Overlay collects which source gives each of several files and which it replaces. The
// zero value is ready for use.
type Overlay struct {
	given map[string]string
	list  []Replacement
}

// Add notes that a source gives a file; the same source may do so again.
func (o *Overlay) Add(file, by string) {
	if o.given == nil {
		o.given = map[string]string{}
	}
	of, ok := o.given[file]
	o.given[file] = by
	if !ok || of == by {
		return
	}
	i := slices.IndexFunc(o.list, func(r Replacement) bool { return r.Of == of && r.By == by })
	if i < 0 {
		i = len(o.list)
		o.list = append(o.list, Replacement{Of: of, By: by})
	}
	o.list[i].Files = append(o.list[i].Files, file)
}

// Replaced returns the replacements, in the order in which they began.
func (o *Overlay) Replaced() []Replacement {
	for _, r := range o.list {
		slices.Sort(r.Files)
	}
	return o.list
}

// replaced returns the replacements of a node whose step has such.
func (n *node) replaced(ctx context.Context, in func(Step) string) ([]Replacement, error) {
	step, ok := n.step.(Replacing)
	if !ok {
		return nil, nil
	}
	return step.Replaces(ctx, in)
}

// tellReplaced emits the event of a replacement; step may be "".
func (b *Builder) tellReplaced(step string, r Replacement) {
	b.emit(Event{Type: Replaced, Step: step, Text: r.String(), Replaced: &r})
}

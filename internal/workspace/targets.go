package workspace

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/pantavisor/pantavisor/images/resolve"
	"github.com/pantavisor/pantavisor/internal/layers"
	"github.com/pantavisor/pantavisor/targets"
)

// Listed is a target of [Workspace.Targets].
type Listed struct {
	*targets.Target
	// Makes are the outputs that can be made today: image, bsp, appengine.
	Makes []string `json:"makes"`
	// Needs are the named parts that nobody has given, without which it makes no more.
	Needs []string `json:"needs,omitempty"`
}

// Targets lists the boards, with what each can make.
func (w *Workspace) Targets() error {
	l, err := w.Sources()
	if err != nil {
		return err
	}
	all, err := targets.LoadAll(definitions(l))
	list := map[string]Listed{}
	for _, t := range all {
		list[t.Name] = w.listed(t, l)
	}
	return errors.Join(err, w.tell(list, func(out io.Writer) error {
		table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
		fmt.Fprintln(table, "TARGET\tARCH\tMAKES\tDESCRIPTION")
		for _, t := range all {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", named(t), t.Arch, list[t.Name], t.Description)
		}
		return table.Flush()
	}))
}

// named returns a target's name with its aliases.
func named(t *targets.Target) string {
	if len(t.Aliases) == 0 {
		return t.Name
	}
	return t.Name + " (" + strings.Join(t.Aliases, ", ") + ")"
}

// listed says what a target can make.
func (w *Workspace) listed(t *targets.Target, l *layers.Layers) Listed {
	o := resolve.Options{Layers: l, GivenParts: w.Options.Parts}
	out := Listed{Target: t, Makes: []string{}, Needs: resolve.LackedParts(t, o)}
	out.Makes = append(out.Makes, resolve.Outputs(t, o)...)
	return out
}

// String is "image, bsp", or with what is missing "bsp, needs bl1".
func (l Listed) String() string {
	words := append([]string{}, l.Makes...)
	if len(l.Needs) > 0 {
		words = append(words, "needs "+strings.Join(l.Needs, " "))
	}
	return strings.Join(words, ", ")
}

package budget

import (
	"context"
	"fmt"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/images/size"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Limit is the budget of a thing.
type Limit struct {
	// Thing is its name, Field the field of target.yaml.
	Thing, Field string
	// Most is the limit, in bytes.
	Most int64
}

// Check is the step that compares what was measured with its limits.
type Check struct {
	Limits []Limit
	// Growth is how many percent larger than in Saved each thing may be; nil is no limit.
	Growth *int
	// Saved is the file with the sizes of the last release; nil when there is none.
	Saved *build.Source `json:"-"`
	// Measure is what measures.
	Measure *Measure `json:"-"`

	last func() *size.Saved // of the last build; for texts of errors only, and so no input
}

var (
	_ build.Check   = (*Check)(nil)
	_ build.Sourced = (*Check)(nil)
)

// Name is "budget/" and the name of the measured step.
func (c *Check) Name() string { return "budget/" + c.Measure.Of.Name() }

// Deps are the measure.
func (c *Check) Deps() []build.Step { return []build.Step{c.Measure} }

// Checks is the measured step.
func (c *Check) Checks() build.Step { return c.Measure.Of }

// Sources is the file with sizes.
func (c *Check) Sources() ([]build.Source, error) {
	if c.Saved == nil {
		return nil, nil
	}
	return []build.Source{*c.Saved}, nil
}

// nearly is the part of a budget, in percent, from which on a build warns.
const nearly = 95

// Run compares all things with all their limits.
func (c *Check) Run(_ context.Context, w *build.Work) error {
	things, err := c.Measure.things(w)
	if err != nil {
		return fault.Wrap(fault.IO, err, "reading what was measured")
	}
	var saved *size.Saved
	if c.Saved != nil {
		if saved, err = size.Load(c.Saved.Path); err != nil {
			return err
		}
	}
	var over []string
	for i := range things {
		t := &things[i]
		for _, u := range c.uses(t, saved) {
			w.Uses(u.Use)
			switch {
			case u.Over():
				over = append(over, u.text(t)+c.explain(t, saved))
			case u.Percent() >= nearly:
				w.Warn(fmt.Sprintf("%s: %.0f %% of its budget of %s are in use (%s)", t.Name, u.Percent(), build.Size(u.Limit), u.field))
			}
		}
	}
	if len(over) > 0 {
		return fault.New(fault.Budget, "%s", strings.Join(over, "\n"))
	}
	return nil
}

// use is how much of a limit is used, with the field that has the limit.
type use struct {
	build.Use
	field string
}

// uses returns what is used of the limits of a thing.
func (c *Check) uses(t *size.Thing, saved *size.Saved) (out []use) {
	for _, l := range c.Limits {
		if t.Name == l.Thing || c.Measure.Thing == t.Name && c.Measure.measures(l.Thing) && !strings.HasPrefix(l.Thing, partition) {
			out = append(out, use{build.Use{Name: t.Name, Bytes: t.Bytes, Limit: l.Most}, l.Field})
		}
	}
	if old := saved.Thing(t.Name); old != nil && c.Growth != nil {
		// In floating point a size times a thousand does not overflow.
		most := int64(float64(old.Bytes) * float64(100+*c.Growth) / 100)
		limited := fmt.Sprintf("growth: %d%%", *c.Growth)
		out = append(out, use{build.Use{Name: t.Name, Bytes: t.Bytes, Limit: most, Limited: limited}, "budgets.growth"})
	}
	return out
}

// text says that a budget is exceeded.
func (u use) text(t *size.Thing) string {
	what := "its budget of " + build.Size(u.Limit)
	if u.Limited != "" {
		what = fmt.Sprintf("the %s that it may grow to", build.Size(u.Limit))
	}
	return fmt.Sprintf("%s: %s are %s more than %s; make it smaller, or raise %s in target.yaml",
		t.Name, build.Size(t.Bytes), build.Size(u.Bytes-u.Limit), what, u.field)
}

// most is how many lines an explanation has for each of its parts.
const most = 10

// explain lists what is largest and what has grown.
func (c *Check) explain(t *size.Thing, saved *size.Saved) string {
	var b strings.Builder
	if len(t.Entries) > 0 {
		b.WriteString("\n  the largest:")
	}
	for _, e := range t.Entries[:min(len(t.Entries), most)] {
		fmt.Fprintf(&b, "\n    %10s  %s", build.Size(e.Bytes), e.Name)
	}
	if c.last != nil {
		c.grown(&b, t, c.last(), "the last build")
	}
	since := "the sizes of the last release"
	if saved != nil && saved.Release != "" {
		since = saved.Release
	}
	c.grown(&b, t, saved, since)
	return b.String()
}

// grown lists what has grown since earlier sizes.
func (c *Check) grown(b *strings.Builder, t *size.Thing, earlier *size.Saved, since string) {
	old := earlier.Thing(t.Name)
	if old == nil {
		return
	}
	fmt.Fprintf(b, "\n  since %s: %s", since, size.Change(t.Bytes-old.Bytes))
	for n, g := range t.Since(old) {
		if n == most || g.Bytes() <= 0 {
			return
		}
		was := "new"
		if g.Old > 0 {
			was = "was " + build.Size(g.Old)
		}
		fmt.Fprintf(b, "\n    %10s  %s (%s)", size.Change(g.Bytes()), g.Name, was)
	}
}

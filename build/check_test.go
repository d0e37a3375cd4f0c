package build

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// check is a check whose result is given by a test.
type check struct {
	Limit int64
	of    Step
	needs *step
	size  int64
}

func (c *check) Name() string { return "check/" + c.of.Name() }
func (c *check) Checks() Step { return c.of }

func (c *check) Deps() []Step {
	if c.needs == nil {
		return []Step{c.of}
	}
	return []Step{c.needs}
}

func (c *check) Run(_ context.Context, w *Work) error {
	u := Use{Name: c.of.Name(), Bytes: c.size, Limit: c.Limit}
	w.Uses(u)
	if u.Over() {
		return fault.New(fault.Budget, "%s is too large", c.of.Name())
	}
	return nil
}

// TestCheckEndsTheBuildEarly: what reads a part does not begin when its check fails, and all
// checks of what there is are told.
func TestCheckEndsTheBuildEarly(t *testing.T) {
	b, _ := builder(t, t.TempDir())
	b.Jobs = 1
	var runs atomic.Int32
	one, two := &step{name: "part/one", Label: "one"}, &step{name: "part/two", Label: "two"}
	disk := &step{name: "disk", deps: []Step{one, two}, runs: &runs}
	elsewhere := &step{name: "elsewhere"}
	b.Checks = []Check{
		&check{of: one, Limit: 10, size: 20, needs: &step{name: "size/one", deps: []Step{one}}},
		&check{of: two, Limit: 10, size: 30, needs: &step{name: "size/two", deps: []Step{two}}},
		&check{of: disk, Limit: 10, size: 1},
		&check{of: elsewhere, Limit: 10, size: 99},
	}
	for _, part := range []Step{one, two} {
		if _, err := b.Build(t.Context(), part); fault.Of(err) != fault.Budget {
			t.Fatalf("a part that is built by itself: %v", err)
		}
	}
	res, err := b.make(t.Context(), []Step{disk})
	if fault.Of(err) != fault.Budget || !strings.Contains(err.Error(), "part/one is too large") || !strings.Contains(err.Error(), "part/two is too large") {
		t.Errorf("%v", err)
	}
	if runs.Load() != 0 || !slices.Contains(res.NotRun, "disk") {
		t.Errorf("the step behind the checks ran %d times; not run are %v", runs.Load(), res.NotRun)
	}
	report := b.report(res, nil, err)
	if len(report.Budgets) != 2 || report.Budgets[1] != (Use{Name: "part/two", Bytes: 30, Limit: 10}) || !strings.Contains(string(report.Text()), "300 %") {
		t.Errorf("the report has the budgets %v\n%s", report.Budgets, report.Text())
	}
}

// TestCheckIsNoInput: another limit makes nothing again but the check.
func TestCheckIsNoInput(t *testing.T) {
	dir := t.TempDir()
	one := &step{name: "part"}
	disk := copied(&step{name: "disk", deps: []Step{one}})
	var key string
	for n, limit := range []int64{0, 10, 20} {
		b, l := builder(t, dir)
		if limit > 0 {
			b.Checks = []Check{&check{of: one, Limit: limit, size: 5}}
		}
		res := build(t, b, disk)
		if key == "" {
			key = res.Step("disk").Record.Key
		}
		if got := res.Step("disk").Record.Key; got != key {
			t.Errorf("with a limit of %d the step has another key", limit)
		}
		ran := l.of(Running)
		if n > 0 && (len(ran) != 1 || ran["check/part"] == "") {
			t.Errorf("with a limit of %d these steps ran: %v", limit, ran)
		}
		if limit > 0 && (len(res.Uses) != 1 || res.Uses[0].Percent() != 500/float64(limit)) {
			t.Errorf("with a limit of %d its use is %v", limit, res.Uses)
		}
	}
	b, l := builder(t, dir)
	b.Checks = []Check{&check{of: one, Limit: 20, size: 5}}
	if res := build(t, b, disk); len(l.of(Running)) != 0 || len(res.Uses) != 1 {
		t.Errorf("an unchanged build runs %v and knows the uses %v", l.of(Running), res.Uses)
	}
	plan, err := b.Plan(t.Context(), disk)
	if err != nil || len(plan.Steps) != 3 || plan.Steps[2].Name != "check/part" {
		t.Errorf("%v: the plan is %v", err, plan)
	}
}

// TestCheckOfSomethingElseThatFails: a failure elsewhere does not prevent a check.
func TestCheckOfSomethingElseThatFails(t *testing.T) {
	b, _ := builder(t, t.TempDir())
	one := &step{name: "part"}
	build(t, b, one)
	failed := make(chan struct{})
	bad := &step{name: "bad", Label: "bad", do: func(context.Context, *Work) error {
		defer close(failed)
		return errors.New("no luck")
	}}
	size := &step{name: "size", deps: []Step{one}, do: func(context.Context, *Work) error {
		<-failed
		return nil
	}}
	b.Checks = []Check{&check{of: one, Limit: 10, size: 20, needs: size}}
	_, err := b.Build(t.Context(), bad, one)
	if err == nil || !strings.Contains(err.Error(), "no luck") || !strings.Contains(err.Error(), "part is too large") {
		t.Errorf("%v", err)
	}
}

// TestTwoChecksOfOneStep: they do not wait for each other, and both are told.
func TestTwoChecksOfOneStep(t *testing.T) {
	b, _ := builder(t, t.TempDir())
	part := &step{name: "part"}
	for _, name := range []string{"size", "names"} {
		of := &step{name: name, deps: []Step{part}}
		b.Checks = append(b.Checks, &named{check{of: part, Limit: 10, size: 20, needs: of}, "check/" + name})
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // a build that waits for itself
	defer cancel()
	res, err := b.make(ctx, []Step{&step{name: "disk", deps: []Step{part}}})
	if fault.Of(err) != fault.Budget || len(res.Failed) != 2 || !slices.Contains(res.NotRun, "disk") {
		t.Errorf("%v; failed are %v, not run %v", err, res.Failed, res.NotRun)
	}
}

// named is a check with another name than that of what it checks.
type named struct {
	check
	name string
}

func (n *named) Name() string { return n.name }

func TestNotesOfTheHistory(t *testing.T) {
	b, _ := builder(t, t.TempDir())
	if got := b.Recall("sizes"); got != nil {
		t.Errorf("a history without notes has %q", got)
	}
	for _, text := range []string{"one", "one", "two"} {
		if err := b.Remember("sizes", []byte(text)); err != nil || string(b.Recall("sizes")) != text {
			t.Errorf("%v: %q is remembered as %q", err, text, b.Recall("sizes"))
		}
	}
	if keys := b.newKeeper().keys(); len(keys) != 0 {
		t.Errorf("a note is taken for the records %v", keys)
	}
}

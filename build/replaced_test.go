package build

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// joined is a step that replaces a file, and says so from its dependency's output.
type joined struct{ *step }

func (j joined) Replaces(_ context.Context, in func(Step) string) ([]Replacement, error) {
	what := "before"
	if in(j.deps[0]) != "" {
		what = filepath.Base(in(j.deps[0]))
	}
	return []Replacement{{Files: []string{what}, Of: "b", By: "c"}}, nil
}

// TestReplacedFiles: they are told before the step runs, when it is cached, in the report
// and in the plan, which is made before a build and after one.
func TestReplacedFiles(t *testing.T) {
	t.Parallel()
	b, l := builder(t, t.TempDir())
	b.Replaced = []Replacement{{Files: []string{"config/x/image.config"}, Of: "this module", By: "the workspace"}}
	s := joined{&step{name: "joined", deps: []Step{&step{name: "dep"}}}}
	for round, file := range []string{"before", "out"} {
		plan, err := b.Plan(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		var text bytes.Buffer
		if err := plan.Write(&text, "text"); err != nil || !strings.Contains(text.String(), "joined: c replaces "+file+" of b\n") {
			t.Errorf("plan %d: %v\n%s", round, err, &text)
		}
		l.all = nil
		report, err := b.Deliver(t.Context(), t.TempDir(), []Artefact{{Step: s, From: "file", To: "file"}})
		if err != nil {
			t.Fatal(err)
		}
		var told []string
		for _, e := range l.all {
			if e.Type == Replaced || e.Step == "joined" && (e.Type == Running || e.Type == Cached) {
				told = append(told, string(e.Type)+" "+e.Text)
			}
		}
		state := []string{"running ", "cached "}[round]
		want := []string{"replaced the workspace replaces config/x/image.config of this module", "replaced c replaces out of b", state}
		if d := cmp.Diff(want, told); d != "" {
			t.Errorf("round %d: events (-want +got)\n%s", round, d)
		}
		if len(report.Replaced) != 2 || report.Replaced[1].Step != "joined" || !strings.Contains(string(report.Text()), "replaced joined: c replaces out of b\n") {
			t.Errorf("round %d: report %+v\n%s", round, report.Replaced, report.Text())
		}
	}
}

func TestManyReplacedFilesAreOneLine(t *testing.T) {
	t.Parallel()
	var o Overlay
	for i := range 10 {
		o.Add(string(rune('j'-i)), "one")
		o.Add(string(rune('j'-i)), "one") // the same source again
		o.Add(string(rune('j'-i)), "two")
	}
	o.Add("alone", "two")
	got := o.Replaced()
	if len(got) != 1 || got[0].String() != "two replaces a, b, c, d, e, f, g, h and 2 more of one" {
		t.Errorf("got %v", got)
	}
}

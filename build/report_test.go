package build

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// states returns the states of a report's steps.
func states(r *Report) map[string]string {
	all := map[string]string{}
	for _, s := range r.Steps {
		all[s.Name] = s.State
	}
	return all
}

// TestReportOfAFailedBuild: the report says what failed and what did not, in place of the
// one of an earlier build, at whichever point the build fails.
func TestReportOfAFailedBuild(t *testing.T) {
	t.Parallel()
	good := &step{name: "good"}
	bad := &step{name: "bad", deps: []Step{good}, do: func(context.Context, *Work) error {
		return fault.New(fault.NoSpace, "no room")
	}}
	after := &step{name: "after", deps: []Step{bad}}
	notRun := map[string]string{"good": "done", "bad": "failed", "after": "not run"}
	for what, c := range map[string]struct {
		fail    func(b *Builder, out string) (*Report, error)
		failure Failure
		states  map[string]string
		files   int
	}{
		"a step": {
			func(b *Builder, out string) (*Report, error) {
				return b.Deliver(t.Context(), out, []Artefact{{after, "file", "a"}})
			},
			Failure{"no space", 6, "bad", "running step bad: no room"}, notRun, 0,
		},
		"publishing": {
			func(b *Builder, out string) (*Report, error) {
				return b.Deliver(t.Context(), out, []Artefact{{good, "file", "a"}, {good, "gone", "b"}})
			},
			Failure{"i/o", 5, "", "publishing b"}, map[string]string{"good": "done"}, 1,
		},
		"planning": {
			func(b *Builder, out string) (*Report, error) {
				err := fault.New(fault.BadInput, "no such board")
				return b.Fail(t.Context(), out, err), err
			},
			Failure{"bad input", 2, "", "no such board"}, map[string]string{}, 0,
		},
	} {
		b, l := builder(t, t.TempDir())
		b.Warnings = []string{"careful"}
		out := filepath.Join(t.TempDir(), "out")
		write(t, filepath.Join(out, ReportName), "of an earlier build")
		made, err := c.fail(b, out)
		if err == nil {
			t.Fatalf("%s: it did not fail", what)
		}
		var r Report
		if err := json.Unmarshal([]byte(read(t, filepath.Join(out, ReportName))), &r); err != nil || r.Failure == nil {
			t.Fatalf("%s: %v, %+v", what, err, r)
		}
		if !strings.HasPrefix(r.Failure.Text, c.failure.Text) {
			t.Errorf("%s: the text is %q", what, r.Failure.Text)
		}
		r.Failure.Text = c.failure.Text
		if d := cmp.Diff(&c.failure, r.Failure) + cmp.Diff(c.states, states(&r)); d != "" {
			t.Errorf("%s (-want +got)\n%s", what, d)
		}
		if len(r.Artefacts) != c.files || len(made.Artefacts) != c.files || len(r.Warnings) != 1 {
			t.Errorf("%s: artefacts %+v, warnings %v", what, r.Artefacts, r.Warnings)
		}
		for _, a := range r.Artefacts {
			if a.SHA256 == "" {
				t.Errorf("%s: %s has no SHA-256", what, a.Path)
			}
		}
		last := l.all[len(l.all)-1]
		if last.Type != Finished || last.Kind != c.failure.Kind || last.Code != c.failure.Code {
			t.Errorf("%s: the last event is %+v", what, last)
		}
		if text := read(t, filepath.Join(out, "report.txt")); !strings.Contains(text, "FAILED ("+c.failure.Kind) {
			t.Errorf("%s: the report as text is\n%s", what, text)
		}
	}
}

// TestReportThatCannotBeWritten: the error of the build stays the error.
func TestReportThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	b, l := builder(t, t.TempDir())
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "")
	b.Fail(t.Context(), filepath.Join(file, "out"), errors.New("first"))
	if len(l.all) != 2 || l.all[0].Type != Warning || l.all[1].Text != "first" {
		t.Errorf("got %+v", l.all)
	}
}

// TestDigestIsComputedOnce: an output whose file was published before, to whichever
// directory, is not read again; one that was made again is.
func TestDigestIsComputedOnce(t *testing.T) {
	t.Parallel()
	s := &step{name: "image", do: func(_ context.Context, w *Work) error {
		f, err := os.Create(filepath.Join(w.Out, "file"))
		if err != nil {
			return err
		}
		return errors.Join(f.Truncate(sparseFrom), f.Close())
	}}
	cache := t.TempDir()
	var sums []string
	computed := func() int {
		t.Helper()
		b, l := builder(t, cache)
		r, err := b.Deliver(t.Context(), t.TempDir(), []Artefact{{s, "file", "a.img"}})
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, r.Artefacts[0].SHA256)
		return len(l.of(Message))
	}
	if n := []int{computed(), computed()}; !cmp.Equal(n, []int{1, 0}) {
		t.Errorf("the digest was computed %v times, want once", n)
	}
	b, _ := builder(t, cache)
	if err := b.Forget(t.Context()); err != nil {
		t.Fatal(err)
	}
	if computed() != 1 {
		t.Error("the digest outlived the output")
	}
	want := "3b6a07d0d404fab4e23b6d34bc6696a6a312dd92821332385e5af7c01c421351" // sha256sum of 64 MiB of zeros
	if !cmp.Equal(sums, []string{want, want, want}) {
		t.Errorf("got %v", sums)
	}
}

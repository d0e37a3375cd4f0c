package inputs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/build"
)

// runs counts the steps that were run.
type runs struct{ steps int }

func (r *runs) Event(e build.Event) {
	if e.Type == build.Running {
		r.steps++
	}
}

// TestUnchanged composes into the same directory again and again: no step runs as long as neither
// an input nor the results have changed.
func TestUnchanged(t *testing.T) {
	t.Parallel()
	dir, list := product(t)
	file, out := write(t, dir, list), filepath.Join(t.TempDir(), "out")
	again := func(what string, want bool) *build.Report {
		t.Helper()
		l, err := Read(file)
		must(t, err)
		r := &runs{}
		report, err := l.Build(t.Context(), out, Options{Sink: r})
		must(t, err)
		if r.steps > 0 != want {
			t.Errorf("%s: %d steps were run", what, r.steps)
		}
		return report
	}
	first := again("at first", true)
	second := again("nothing changed", false)
	if diff := cmp.Diff(first.Artefacts[0].SHA256, second.Artefacts[0].SHA256); diff != "" || len(first.Artefacts) != len(second.Artefacts) {
		t.Errorf("the report is another one: %s", diff)
	}
	image := filepath.Join(out, first.Artefacts[0].Path)
	must(t, os.Truncate(image, 1<<20))
	again("an output is another one", true)
	must(t, os.Remove(image))
	again("an output is gone", true)
	again("nothing changed after that", false)
	must(t, os.WriteFile(filepath.Join(dir, "bom.json"), []byte(`{"another": 1}`), 0o644))
	again("an input is another one", true)
	must(t, os.WriteFile(filepath.Join(out, stampFile), []byte("{"), 0o644))
	again("the stamp cannot be read", true)
}

// names counts how often a step was run, by its name.
type names map[string]int

func (n names) Event(e build.Event) {
	if e.Type == build.Running {
		n[e.Step]++
	}
}

// holding is a step that runs until it may end.
type holding struct{ entered, leave chan struct{} }

func (h *holding) Name() string       { return "holding" }
func (h *holding) Deps() []build.Step { return nil }

func (h *holding) Run(_ context.Context, w *build.Work) error {
	close(h.entered)
	<-h.leave
	return os.WriteFile(filepath.Join(w.Out, "file"), nil, 0o644)
}

// TestCache composes with a cache: of a list with one other input only what that gets into is made,
// as it is made without a cache, and what no composition needs any more is removed.
func TestCache(t *testing.T) {
	t.Parallel()
	dir, list := product(t)
	file, cache := write(t, dir, list), filepath.Join(t.TempDir(), "cache")
	compose := func(cache string) (names, map[string]string) {
		t.Helper()
		l, err := Read(file)
		must(t, err)
		ran, sums := names{}, map[string]string{}
		report, err := l.Build(t.Context(), filepath.Join(t.TempDir(), "out"), Options{Sink: ran, Cache: cache})
		must(t, err)
		for _, a := range report.Artefacts {
			sums[a.Path] = a.SHA256
		}
		return ran, sums
	}
	other, used := filepath.Join(cache, "pvcompose-"+strings.Repeat("0", 16)), filepath.Join(cache, "pvcompose-"+strings.Repeat("1", 16))
	somebody := filepath.Join(cache, strings.Repeat("0", 16))
	must(t, errors.Join(os.MkdirAll(other, 0o755), os.MkdirAll(used, 0o755), os.MkdirAll(somebody, 0o755)))
	busy := &holding{entered: make(chan struct{}), leave: make(chan struct{})}
	there, err := build.OpenCache(used)
	must(t, err)
	done := make(chan error, 1)
	go func() {
		b := &build.Builder{Cache: there, Workspace: dir}
		_, err := b.Deliver(t.Context(), filepath.Join(t.TempDir(), "out"), []build.Artefact{{Step: busy, From: "file", To: "file"}})
		done <- err
	}()
	<-busy.entered
	mine := filepath.Join(cache, "mine")
	must(t, os.WriteFile(mine, nil, 0o644))
	first, _ := compose(cache)
	if _, err := os.Stat(other); err == nil {
		t.Error("the cache of another program is still there")
	}
	for _, kept := range []string{mine, somebody, filepath.Join(used, "steps")} {
		if _, err := os.Stat(kept); err != nil {
			t.Error(err)
		}
	}
	close(busy.leave)
	must(t, <-done)
	must(t, build.Discard(used))
	entries := func() int {
		found, err := filepath.Glob(filepath.Join(cache, "*/steps/*"))
		must(t, err)
		return len(found)
	}
	before := entries()
	must(t, os.WriteFile(filepath.Join(dir, "bom.json"), []byte(`{"another": 1}`), 0o644))
	second, got := compose(cache)
	if second["initrd/base"] > 0 || second["kernel/modules"] > 0 || len(second) == 0 || len(second) >= len(first) {
		t.Errorf("with one other input ran %v", second)
	}
	if after := entries(); after != before {
		t.Errorf("the cache has %d entries, in place of %d", after, before)
	}
	third, want := compose("")
	if len(third) != len(first) {
		t.Errorf("without a cache ran %v, at first %v", third, first)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("outputs with a cache are others (-without +with):\n%s", diff)
	}
}

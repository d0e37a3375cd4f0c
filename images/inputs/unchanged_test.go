package inputs

import (
	"os"
	"path/filepath"
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

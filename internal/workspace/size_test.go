package workspace

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/images/size"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// states returns the state of each step of a report.
func states(r *build.Report) map[string]string {
	out := map[string]string{}
	for _, s := range r.Steps {
		out[s.Name] = s.State
	}
	return out
}

// TestBudgetOfATarget: a budget that is exceeded ends the build before what has the part is made; one
// that is raised makes nothing again but its check.
func TestBudgetOfATarget(t *testing.T) {
	w, out := empty(t)
	define(t, w, "plain", plain+"budgets: {binary: 1MiB}\n")
	report, err := w.Build(t.Context(), "plain")
	if fault.Of(err) != fault.Budget || !strings.Contains(err.Error(), "device binary: ") || !strings.Contains(err.Error(), "  runtime\n") {
		t.Fatalf("%v", err)
	}
	if got := states(report); got["appengine/package"] != "not run" || got["go/pantavisor/amd64"] != "done" {
		t.Errorf("the steps are %v", got)
	}
	if len(report.Budgets) != 1 || report.Failure.Kind != "over budget" {
		t.Errorf("%+v, %+v", report.Budgets, report.Failure)
	}
	if err := w.Size(t.Context(), "plain", SizeOptions{}); fault.Of(err) != fault.Missing {
		t.Errorf("the sizes of a failed build: %v", err)
	}

	define(t, w, "plain", plain+"budgets: {binary: 64MiB, growth: 0%}\n")
	report, err = w.Build(t.Context(), "plain")
	if err != nil || len(report.Budgets) != 1 || report.Budgets[0].Over() {
		t.Fatalf("%v: %+v", err, report)
	}
	if got := states(report); got["go/pantavisor/amd64"] != "cached" || got["size/go/pantavisor/amd64"] != "cached" {
		t.Errorf("with another budget the steps are %v", got)
	}
	report, err = w.Build(t.Context(), "plain")
	if err != nil || len(report.Budgets) != 1 || slices.ContainsFunc(report.Steps, func(s build.StepReport) bool { return s.State != "cached" }) {
		t.Errorf("%v: an unchanged build has the steps %v", err, states(report))
	}

	out.Reset()
	if err := w.Size(t.Context(), "plain", SizeOptions{Save: true, SVG: "size.svg", HTML: "size.html"}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "device binary") || !strings.Contains(out.String(), "pantavisor: runtime") {
		t.Errorf("%s", out)
	}
	for _, file := range []string{"size.svg", "size.html"} {
		if text, err := os.ReadFile(filepath.Join(w.Root, file)); err != nil || !bytes.Contains(text, []byte("</svg>")) {
			t.Errorf("%s: %v", file, err)
		}
	}
	// In a new clone it leaves the results, too.
	if err := os.RemoveAll(w.Out("plain")); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if err := w.Size(t.Context(), "plain", SizeOptions{Save: true}); err != nil || !strings.HasPrefix(out.String(), "plain: ") {
		t.Errorf("%v: %s", err, out)
	}
	file := filepath.Join(w.Root, "targets/plain/sizes.json")
	saved, err := size.Load(file)
	if err != nil || saved.Thing("device binary") == nil {
		t.Fatalf("%v: %+v", err, saved)
	}

	// The last release was smaller, and the last build had less in it.
	saved.Release = "v1"
	saved.Things[0].Bytes -= 1000
	text, err := saved.Encode()
	if err != nil || os.WriteFile(file, text, 0o644) != nil {
		t.Fatal(err)
	}
	_, err = w.Build(t.Context(), "plain")
	if fault.Of(err) != fault.Budget || !strings.Contains(err.Error(), "budgets.growth") || !strings.Contains(err.Error(), "since v1: +1000 B") || !strings.Contains(err.Error(), "since the last build: +0 B") {
		t.Errorf("%v", err)
	}
}

func TestSizeOfAnything(t *testing.T) {
	t.Setenv("PV_CACHE_DIR", t.TempDir())
	w, out := empty(t)
	define(t, w, "plain", plain)
	a, b := t.TempDir(), t.TempDir()
	for dir, text := range map[string]string{a: strings.Repeat("a", 5000), b: strings.Repeat("b", 4000)} {
		if err := os.WriteFile(filepath.Join(dir, "file"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Size(t.Context(), a, SizeOptions{Compare: b}); err != nil || !strings.Contains(out.String(), "+1000 B") {
		t.Errorf("%v: %s", err, out)
	}
	out.Reset()
	w.JSON = true
	if err := w.Size(t.Context(), b, SizeOptions{}); err != nil {
		t.Fatal(err)
	}
	report := filepath.Join(w.Root, "report.json")
	if err := os.WriteFile(report, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if err := w.Size(t.Context(), a, SizeOptions{Compare: report}); err != nil {
		t.Fatal(err)
	}
	if got := decode(t, out.String()); len(got) != 1 || got[0]["change"] != 1000.0 {
		t.Errorf("%v", got)
	}
	for what, want := range map[string]string{"plain": "mage build plain makes it", "none": "neither a file"} {
		if err := w.Size(t.Context(), what, SizeOptions{}); fault.Of(err) != fault.Missing || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := w.Size(t.Context(), a, SizeOptions{Save: true}); fault.Of(err) != fault.BadInput {
		t.Errorf("saving the sizes of a directory: %v", err)
	}
	if err := w.Size(t.Context(), a, SizeOptions{SVG: "none/size.svg"}); fault.Of(err) != fault.IO {
		t.Errorf("a picture without a directory: %v", err)
	}
}

package workspace

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// decode returns the JSON values that a command has printed.
func decode(t *testing.T, text string) []map[string]any {
	t.Helper()
	var all []map[string]any
	for d := json.NewDecoder(strings.NewReader(text)); ; {
		var v map[string]any
		err := d.Decode(&v)
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		all = append(all, v)
	}
}

// plain is a target that takes nothing from the network.
const plain = "description: x\narch: {go: amd64}\nplatform: appengine\nappengine: {suite: bookworm}\n"

// define writes the definition of a target.
func define(t *testing.T, w *Workspace, name, text string) {
	t.Helper()
	dir := filepath.Join(w.Root, "targets", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "target.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestOneForm walks the commands that need neither network nor compiler: with --json they
// print one value, and with --events=- lines, of which the last has that value.
func TestOneForm(t *testing.T) {
	for name, c := range map[string]struct {
		has string // a member of the value
		do  func(w *Workspace) error
	}{
		"targets":   {"x64-uefi", func(w *Workspace) error { return w.Targets() }},
		"plan":      {"steps", func(w *Workspace) error { return w.Plan(t.Context(), "plain", "") }},
		"why":       {"verdict", func(w *Workspace) error { return w.Why(t.Context(), "plain", "appengine/package") }},
		"clean":     {"removed", func(w *Workspace) error { return w.Clean(t.Context(), "plain") }},
		"component": {"steps", func(w *Workspace) error { return w.Component(t.Context(), "plain", "init-clean") }},
		"init":      {"directory", func(w *Workspace) error { return w.Init(t.Context(), "product", "", "") }},
		"build": {"failure", func(w *Workspace) error {
			w.Options.UseSourceBSP = true
			if _, err := w.Build(t.Context(), "plain"); fault.Of(err) != fault.BadInput {
				return err
			}
			return nil
		}},
		"build of an unknown target": {"failure", func(w *Workspace) error {
			if _, err := w.Build(t.Context(), "x64-uef"); fault.Of(err) != fault.BadInput {
				return err
			}
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w, out := empty(t)
			define(t, w, "plain", plain)
			if name == "init" {
				from, err := filepath.Abs("../..")
				if err != nil {
					t.Fatal(err)
				}
				c.do = func(w *Workspace) error { return w.Init(t.Context(), "product", from, "") }
			}
			w.JSON = true
			if err := c.do(w); err != nil {
				t.Fatal(err)
			}
			if got := decode(t, out.String()); len(got) != 1 || got[0][c.has] == nil {
				t.Errorf("--json: %d values, no %s in\n%s", len(got), c.has, out)
			}
			if name == "init" || name == "plan" { // not twice; its own writer
				return
			}
			out.Reset()
			w.Events = "-"
			if err := c.do(w); err != nil {
				t.Fatal(err)
			}
			lines := decode(t, out.String())
			last := lines[len(lines)-1]
			result, _ := last["result"].(map[string]any)
			if len(lines) != strings.Count(out.String(), "\n") || last["type"] != string(build.Resulted) || result[c.has] == nil {
				t.Errorf("--events=-:\n%s", out)
			}
			if name == "build" && lines[len(lines)-2]["type"] != string(build.Finished) {
				t.Errorf("the build has not finished:\n%s", out)
			}
		})
	}
}

// TestReportOfAnUnplannedBuild: a report is left for targets alone, whatever is wrong.
func TestReportOfAnUnplannedBuild(t *testing.T) {
	w, _ := empty(t)
	define(t, w, "mine", "description: [\n")
	define(t, w, "plain", plain)
	w.Options.UseSourceBSP = true
	for target, left := range map[string]bool{"mine": true, "plain": true, "x64-uef": false, "../mine": false} {
		if _, err := w.Build(t.Context(), target); err == nil {
			t.Errorf("%s was built", target)
		}
		text, err := os.ReadFile(filepath.Join(w.Out(target), build.ReportName))
		if (err == nil) != left || left && !strings.Contains(string(text), `"kind": "bad input"`) {
			t.Errorf("%s: report %s, %v", target, text, err)
		}
	}
}

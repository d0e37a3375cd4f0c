package appengine

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/build/options"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/junit"
	"github.com/pantavisor/pantavisor/internal/layers"
	"github.com/pantavisor/pantavisor/internal/workspace"
)

func TestAppEngineTestsAreAddedAndListed(t *testing.T) {
	w, out := emptyWorkspace(t)
	for range 2 {
		if err := AddCommand(w, "mine"); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(out.String(), "edit test/suites/mine/data/01-new/, then record its result: mage appengine:run mine:1 -o\n") {
		t.Errorf("it does not say where the test is, and how it alone is recorded:\n%s", out)
	}
	out.Reset()
	if err := ListCommand(w); err != nil || !strings.Contains(out.String(), "mine:0") || !strings.Contains(out.String(), "mine:1") {
		t.Errorf("%v\n%s", err, out)
	}
	out.Reset()
	w.JSON = true
	var list []map[string]string
	if err := ListCommand(w); err != nil || json.Unmarshal(out.Bytes(), &list) != nil {
		t.Errorf("%v\n%s", err, out)
	}
	from := map[string]string{}
	for _, item := range list {
		from[item["id"]] = item["from"]
	}
	if from["mine:1"] != layers.Workspace || !strings.HasPrefix(from["local:0"], "module ") {
		t.Errorf("a test of the workspace, and one of the module, come from: %v", from)
	}
	if err := RunCommand(t.Context(), w, "local:0", Mode{Overwrite: true}); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "recording local:0") {
		t.Errorf("recording a test of the module: %v", err)
	}
	if err := os.WriteFile(filepath.Join(w.Root, "test/suites/mine/data/00-new/test.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := ListCommand(w); fault.Of(err) != fault.BadInput {
		t.Errorf("a broken test: %v", err)
	}
}

func TestAppEngineRunKnowsItsGroups(t *testing.T) {
	w, _ := emptyWorkspace(t)
	if err := AddCommand(w, "mine"); err != nil {
		t.Fatal(err)
	}
	for worw, want := range map[string]string{"mini": "did you mean mine", "mine:7": "no such number"} {
		if err := RunCommand(t.Context(), w, worw, Mode{}); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", worw, err, want)
		}
	}
}

func TestTestWords(t *testing.T) {
	for in, want := range map[string]string{
		"mage appengine:test ls": "mage appengine:ls", "mage AppEngine:Test run local:0 -i": "mage appengine:run local:0 -i",
		"mage appengine:test add local": "mage appengine:add local", "mage appengine:test": "mage appengine:test",
		"mage appengine:test fly": "mage appengine:test fly", "mage run ls": "mage run ls", "mage": "mage",
	} {
		if got := strings.Join(TestWords(strings.Fields(in)), " "); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// emptyWorkspace returns a workspace without files and with a cache of its own.
func emptyWorkspace(t *testing.T) (*workspace.Workspace, *bytes.Buffer) {
	t.Helper()
	t.Setenv("PV_CACHE_DIR", t.TempDir())
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "go.mod"), []byte("module example.test/m\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	return &workspace.Workspace{Root: root, Options: &options.Options{}, Stdout: &out, Stderr: &bytes.Buffer{}}, &out
}

func TestReportOfTests(t *testing.T) {
	t.Parallel()
	want := junit.Suite{Name: "appengine", Seconds: 3, Cases: []junit.Case{
		{Class: "appengine.local", Name: "local:0 boot", Seconds: 1},
		{Class: "appengine.local", Name: "local:1 web", Seconds: 2, Failure: "it differs"},
		{Class: "appengine.local", Name: "local:2 late", Skip: "it is skipped"},
	}}
	got := suite([]Result{
		{ID: "local:0", Name: "boot", Verdict: Passed, Seconds: 1}, {ID: "local:1", Name: "web", Verdict: Failed, Seconds: 2, Why: "it differs"},
		{ID: "local:2", Name: "late", Verdict: Skipped},
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

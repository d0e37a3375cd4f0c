package workspace

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/emulator"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/junit"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
)

func TestSuiteOfABoot(t *testing.T) {
	t.Parallel()
	s := emulator.Summary{
		Target: "board", BootSeconds: 3,
		Containers: []api.Container{
			{Name: "web", Status: "READY", StatusGoal: "STARTED"},
			{Name: "db", Status: "BLOCKED", StatusGoal: "READY", StatusReason: "no data"},
			{Name: "log", Status: "STOPPED", StatusGoal: "STARTED"},
		},
		Failures:  []emulator.Failure{{Container: "log", Reason: "it ended", LastLines: []string{"a", "b"}}},
		LastLines: []string{"console"},
	}
	err := fault.New(fault.Goal, "not all goals")
	want := junit.Suite{Name: "board", Seconds: 3, Cases: []junit.Case{
		{Class: "board", Name: "boot", Seconds: 3, Failure: "not all goals", Output: "console"},
		{Class: "board.containers", Name: "web"},
		{Class: "board.containers", Name: "db", Failure: "it is BLOCKED instead of READY (no data)"},
		{Class: "board.containers", Name: "log", Failure: "it ended", Output: "a\nb"},
	}}
	if diff := cmp.Diff(want, suiteOf(s, err)); diff != "" {
		t.Error(diff)
	}
	if got, want := bootLine(s, err), "boot of board failed (goal not reached) after 3 s"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestRunWithoutABootLeavesAReport expects that the report of an earlier run does not stay.
func TestRunWithoutABootLeavesAReport(t *testing.T) {
	w, _ := empty(t)
	file := filepath.Join(t.TempDir(), "report.xml")
	if err := os.WriteFile(file, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := w.Run(t.Context(), "no-such-target", RunOptions{JUnit: file})
	if fault.Of(err) != fault.BadInput {
		t.Errorf("got %v", err)
	}
	text, read := os.ReadFile(file)
	if read != nil || !strings.Contains(string(text), `errors="1"`) || !strings.Contains(string(text), "no-such-target") {
		t.Errorf("%v: %s", read, text)
	}
}

func TestListOfResults(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := &Workspace{Root: dir, List: "list.json"}
	if err := w.list(&build.Report{Target: "board", Artefacts: []build.Published{{Path: "board.img", Bytes: 7, SHA256: "00"}}}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "list.json"))
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"target": "board", "directory": filepath.Join(dir, "out/board"),
		"artefacts": []any{map[string]any{"path": "board.img", "bytes": 7.0, "sha256": "00"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

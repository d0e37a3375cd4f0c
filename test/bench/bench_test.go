package bench

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRecordSome replaces the rows that were measured, and keeps the others.
func TestRecordSome(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "benchmarks.md")
	if err := os.WriteFile(file, []byte("before\n"+begin+end+"after\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	row := func(what, unit string, value float64) Row { return row(what, unit, 2, []float64{value}, "") }
	if err := record(file, []Row{row("a", "CPU s", 1), row("a", "MiB", 3), row("b", "MiB", 1)}, false); err != nil {
		t.Fatal(err)
	}
	if err := record(file, []Row{row("a", "MiB", 1), row("c", "MiB", 4)}, true); err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(doc)) {
		if cells := strings.Split(line, " | "); len(cells) == 7 && !strings.HasPrefix(line, "| what") {
			found = append(found, cells[0]+" "+cells[1]+" "+cells[3]+" "+cells[5])
		}
	}
	if got, want := strings.Join(found, "\n"), "| a 1 CPU s reached\n| a 1 MiB reached\n| b 1 MiB reached\n| c 4 MiB missed"; got != want {
		t.Errorf("%s\nin\n%s", got, doc)
	}
	if !strings.HasPrefix(string(doc), "before\n") || !strings.HasSuffix(string(doc), end+"after\n") || strings.Count(string(doc), "measured alone on") != 2 {
		t.Errorf("%s", doc)
	}
}

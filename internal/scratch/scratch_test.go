package scratch

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

const prefix = "scratch-test-"

func TestDirectoriesOfKilledProcessesAreRemoved(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	held, err := New(prefix)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Remove()
	left, other := filepath.Join(os.TempDir(), prefix+"left"), filepath.Join(os.TempDir(), prefix+"other")
	young := filepath.Join(os.TempDir(), prefix+"young")
	for _, dir := range []string{left, other, young} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{left, young} {
		if err := os.WriteFile(filepath.Join(dir, lockName), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-time.Hour)
	for _, dir := range []string{held.Path, left, other} {
		if err := os.Chtimes(dir, old, old); err != nil {
			t.Fatal(err)
		}
	}
	next, err := New(prefix)
	if err != nil {
		t.Fatal(err)
	}
	next.Remove()
	next.Remove()
	for dir, want := range map[string]bool{held.Path: true, left: false, other: true, young: true, next.Path: false} {
		if _, err := os.Stat(dir); (err == nil) != want {
			t.Errorf("%s: %v, want it there: %v", filepath.Base(dir), err, want)
		}
	}
}

package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/workspace"
	"github.com/pantavisor/pantavisor/revision/fragment"
)

// TestSameImage composes images of targets from their lists of inputs: they must be those of the
// target, bit for bit. PV_TEST_TARGETS names others than the usual ones.
func TestSameImage(t *testing.T) {
	if testing.Short() {
		t.Skip("builds images")
	}
	wanted := []string{"x64-uefi", "rpi64"}
	if text := os.Getenv("PV_TEST_TARGETS"); text != "" {
		wanted = strings.Split(text, ",")
	}
	for _, name := range wanted {
		t.Run(name, func(t *testing.T) { sameImage(t, name) })
	}
}

func sameImage(t *testing.T, name string) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	m, err := workspace.OpenMaker(t.Context(), root, name, func(text string) { t.Log(text) })
	if err != nil {
		t.Fatal(err)
	}
	want, err := m.Image(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := m.Inputs(t.Context(), filepath.Join(dir, "inputs")); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out")
	if code := Run(t.Context(), []string{"build", "-i", filepath.Join(dir, "inputs", "inputs.json"), "-o", out}, io.Discard, os.Stderr); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	made, err := filepath.Glob(filepath.Join(out, "*.img"))
	if err != nil || len(made) != 1 {
		t.Fatalf("%v, %v", made, err)
	}
	if sum(t, want) != sum(t, made[0]) {
		t.Errorf("%s is not %s, bit for bit", made[0], want)
	}
}

func sum(t *testing.T, file string) string {
	t.Helper()
	s, err := fragment.Digest(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

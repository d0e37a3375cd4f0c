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

// TestSameMedium composes what targets are installed from, of their lists of inputs: image,
// installation medium and bundle must be those of mage build, bit for bit. The last two targets take
// half a minute of CPU each, and differ from the others in their last step: they are composed with
// PV_TEST_STRESS. PV_TEST_TARGETS names targets in place of all of these.
func TestSameMedium(t *testing.T) {
	if testing.Short() {
		t.Skip("builds media")
	}
	wanted := []string{"x64-uefi", "rpi64"}
	if os.Getenv("PV_TEST_STRESS") != "" {
		wanted = append(wanted, "x64-uefi-installer", "arm-toradex-colibri-imx6_7")
	}
	if text := os.Getenv("PV_TEST_TARGETS"); text != "" {
		wanted = strings.Split(text, ",")
	}
	for _, name := range wanted {
		t.Run(name, func(t *testing.T) { sameMedium(t, name) })
	}
}

func sameMedium(t *testing.T, name string) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	m, err := workspace.OpenMaker(t.Context(), root, name, func(text string) { t.Log(text) })
	if err != nil {
		t.Fatal(err)
	}
	want, err := m.Medium(t.Context())
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
	var made []string
	for _, pattern := range []string{"*.img", "*.tar"} {
		found, err := filepath.Glob(filepath.Join(out, pattern))
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, found...)
	}
	if len(made) != 1 {
		t.Fatalf("it made %v", made)
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

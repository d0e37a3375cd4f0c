package workspace

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/targets"
)

// TestAbsentPackagesHavePositions: the error says which container names the package that
// Debian does not have.
func TestAbsentPackagesHavePositions(t *testing.T) {
	w, _ := empty(t)
	dir := filepath.Join(w.Root, "containers", "app")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	text := "description: d\ncommand: [/bin/x]\nroot:\n  debian: [{package: there}, {package: bsybox}]\n"
	if err := os.WriteFile(filepath.Join(dir, "container.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := w.Sources()
	if err != nil {
		t.Fatal(err)
	}
	target := &targets.Target{Name: "mine", Containers: []string{"network", "app"}}
	absent := fault.New(fault.Missing, "%w", &debian.AbsentError{Suite: "bookworm", Arch: "arm64", Packages: []string{"bsybox"}})
	err = located(absent, target, l)
	want := "containers/app/container.yaml:4:31: root.debian[1].package: \"bsybox\" is not in suite bookworm"
	if fault.Of(err) != fault.Missing || !strings.HasSuffix(err.Error(), "\n"+want) {
		t.Errorf("kind %v: %v, want %s", fault.Of(err), err, want)
	}
	target.Containers = nil
	if err := located(absent, target, l); !errors.Is(err, absent) || strings.Contains(err.Error(), "\n") {
		t.Errorf("named by no container: %v", err)
	}
}

// TestUnknownSuiteHasAPosition: that of the field that names it, in the target or its base.
func TestUnknownSuiteHasAPosition(t *testing.T) {
	w, _ := empty(t)
	for name, text := range map[string]string{
		"mine": "description: d\narch: {go: arm64, debian: arm64}\nkernel:\n  source: debian\n  suite: bokworm\n  package: linux-image-arm64\n",
		"heir": "description: d\nbase: mine\n",
	} {
		file := filepath.Join(w.Root, "targets", name, targets.FileName)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	l, err := w.Sources()
	if err != nil {
		t.Fatal(err)
	}
	unknown := fault.New(fault.BadInput, "%w", &debian.UnknownSuiteError{Suite: "bokworm"})
	for _, name := range []string{"mine", "heir"} {
		err := located(unknown, &targets.Target{Name: name, Definition: name}, l)
		if want := "targets/mine/target.yaml:5:3: kernel.suite: "; fault.Of(err) != fault.BadInput || !strings.HasPrefix(err.Error(), want) || !strings.HasSuffix(err.Error(), "did you mean bookworm?") {
			t.Errorf("%s: kind %v: %v, want %s", name, fault.Of(err), err, want)
		}
	}
	other := fault.New(fault.BadInput, "%w", &debian.UnknownSuiteError{Suite: "other"})
	if err := located(other, &targets.Target{Name: "mine", Definition: "mine"}, l); !errors.Is(err, other) {
		t.Errorf("a suite that nothing names: %v", err)
	}
}

// TestReferencesHavePositions: all that a target's file names and that does not exist is
// reported at once, with where it is named.
func TestReferencesHavePositions(t *testing.T) {
	w, _ := empty(t)
	dir := filepath.Join(w.Root, "targets", "mine")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	text := `description: my board
base: x64-uefi
containers: [network, networq]
addons:
  - {name: files, directory: addons/gone}
  - {name: tool, program: cmd/gone}
requires: [camera, kernel=>6]
`
	if err := os.WriteFile(filepath.Join(dir, "target.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := w.Build(t.Context(), "mine")
	if fault.Of(err) != fault.BadInput {
		t.Fatalf("kind %v: %v", fault.Of(err), err)
	}
	for _, want := range []string{
		`targets/mine/target.yaml:3:23: containers[1]: container "networq": unknown; did you mean network?`,
		"targets/mine/target.yaml:5:19: addons[0].directory: " + filepath.Join(w.Root, "addons/gone") + " does not exist",
		`targets/mine/target.yaml:6:18: addons[1].program: package "cmd/gone": unknown; there are none`,
		`targets/mine/target.yaml:7:20: requires[1]: declaration "kernel=>6", column 7: operator "=>" is unknown`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s is missing in:\n%v", want, err)
		}
	}
	if err := w.Clean(t.Context(), "mine"); err != nil {
		t.Errorf("cleaning: %v", err)
	}
	w.Options.MergeSource, w.Options.UseSourceBSP = "device/.pvr", true
	if _, err := w.loadWhole("mine"); err != nil {
		t.Errorf("what the reference device replaces: %v", err)
	}
}

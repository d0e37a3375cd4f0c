package workspace

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/emulator"
	"github.com/pantavisor/pantavisor/internal/fault"
)

func TestTargetOfContainers(t *testing.T) {
	w, _ := empty(t)
	idle := filepath.Join(w.Root, "containers", "idle")
	if err := errors.Join(os.MkdirAll(idle, 0o755), os.WriteFile(filepath.Join(idle, "container.yaml"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	for words, want := range map[string]string{
		"network": "x64-uefi", "network sdk": "x64-uefi", "sdk": "x64-uefi: say for which",
	} {
		target, err := w.targetOf(strings.Fields(words))
		if err != nil && fault.Of(err) == fault.BadInput {
			target = err.Error()
		}
		if target != want && !strings.Contains(target, want) {
			t.Errorf("%s: %q, %v; want %q", words, target, err, want)
		}
	}
}

// TestDeviceNeedsANewDirectory never writes into what is there.
func TestDeviceNeedsANewDirectory(t *testing.T) {
	w, _ := empty(t)
	if err := w.Device(t.Context(), "x64-uefi", w.Root); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("kind %v: %v", fault.Of(err), err)
	}
}

func TestRunOptions(t *testing.T) {
	w, _ := empty(t)
	for want, r := range map[string]RunOptions{
		"not a port forward":   {Forward: []string{"80"}},
		"--settle=soon is not": {Settle: "soon"},
		"--settle=-1s is not":  {Settle: "-1s"},
		"did you mean q35?":    {Machine: "q3"},
	} {
		if err := w.Run(t.Context(), "x64-uefi", r); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", r, err, want)
		}
	}
}

// TestKeptDiskOfAnEarlierImage warns only when the disk is from another image.
func TestKeptDiskOfAnEarlierImage(t *testing.T) {
	w, _ := empty(t)
	dir := t.TempDir()
	for file, text := range map[string]string{"disk.img": "", "image.sha256": "one\n"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	report := &build.Report{Artefacts: []build.Published{{Path: "other", SHA256: "x"}, {Path: "image", SHA256: "two"}}}
	for sum, warned := range map[string]bool{"one": false, sumOf(report, "image"): true} {
		var said bytes.Buffer
		w.Stderr = &said
		w.tellKept(emulator.Options{Keep: dir, ImageSum: sum})
		if got := strings.Contains(said.String(), "earlier image"); got != warned || strings.Count(said.String(), "\n") != 1 {
			t.Errorf("image %s: %s", sum, said.String())
		}
	}
}

package vm

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/internal/oracle"
)

var (
	blocks = regexp.MustCompile("(?s)```sh\n(.*?)```")
	medium = regexp.MustCompile(`/dev/sdX\b`)
)

// TestGuide runs the commands of docs/guide.md in their order, with a file in place of the
// medium, and checks that the medium then is the image, and that the board ran in QEMU until
// both containers had reached their goals and was switched off.
func TestGuide(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and boots an image")
	}
	oracle.Need(t, "bmaptool", "qemu-system-aarch64")
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "docs/guide.md"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	wrap(t, dir, "mage", "exec go tool mage \"$@\"\n")
	wrap(t, dir, "pvr", "exec go run ./cmd/pvr \"$@\"\n")
	disk := filepath.Join(dir, "medium")
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ran := false
	found := blocks.FindAllStringSubmatch(string(text), -1)
	for _, b := range found {
		said := runCommands(t, root, dir, medium.ReplaceAllString(b[1], disk))
		if strings.Contains(b[1], "mage run") {
			ran = bothReached(said)
			t.Logf("%s%s", b[1], said)
		}
		if strings.Contains(b[1], "/dev/sdX") {
			sameImage(t, root, disk)
		}
	}
	if len(found) < 6 {
		t.Errorf("the guide has %d blocks of commands", len(found))
	}
	if !ran {
		t.Error("the board did not run with both containers and a clean end")
	}
}

// bothReached reads the summary of mage run.
func bothReached(said string) bool {
	row := func(name string) bool {
		return regexp.MustCompile(`(?m)^` + name + ` .* STARTED +STARTED +true$`).MatchString(said)
	}
	return row("network") && row("sdk") && strings.Contains(said, ": goals reached: true, ") && strings.Contains(said, "clean power-off: true\n")
}

// wrap makes a program that runs a command in the source tree.
func wrap(t *testing.T, dir, name, script string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
}

// runCommands returns what the commands have printed.
func runCommands(t *testing.T, root, dir, commands string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-eu", "-c", commands)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "PV_BUILD_INTERACTIVE=false")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s%v\n%s", commands, err, out[max(0, len(out)-6000):])
	}
	return string(out)
}

// sameImage compares the medium with the image, and empties it.
func sameImage(t *testing.T, root, disk string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root, "out/qemu-aarch64/*.img"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%q, %v", found, err)
	}
	if out, err := exec.CommandContext(t.Context(), "cmp", found[0], disk).CombinedOutput(); err != nil {
		t.Errorf("the medium is not the image: %v\n%s", err, out)
	}
	if err := os.Truncate(disk, 0); err != nil {
		t.Fatal(err)
	}
}

func TestBothReached(t *testing.T) {
	t.Parallel()
	const summary = `CONTAINER  GROUP     STATUS   GOAL     REACHED
network    root      STARTED  STARTED  true
sdk        platform  STARTED  STARTED  true
qemu-aarch64: goals reached: true, 41.5 s by tcg, clean power-off: true
`
	if !bothReached("powering off\n" + summary) {
		t.Error("both containers have reached their goals")
	}
	for _, part := range []string{"network", "sdk", "  true\nqemu", "reached: true", "off: true"} {
		if bothReached(strings.Replace(summary, part, "x", 1)) {
			t.Errorf("without %q", part)
		}
	}
}

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
// medium, and checks that the medium then is the image.
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
	found := blocks.FindAllStringSubmatch(string(text), -1)
	for _, b := range found {
		runCommands(t, root, dir, medium.ReplaceAllString(b[1], disk))
		if strings.Contains(b[1], "/dev/sdX") {
			sameImage(t, root, disk)
		}
	}
	if len(found) < 6 {
		t.Errorf("the guide has %d blocks of commands", len(found))
	}
}

// wrap makes a program that runs a command in the source tree.
func wrap(t *testing.T, dir, name, script string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
}

func runCommands(t *testing.T, root, dir, commands string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-eu", "-c", commands)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "PV_BUILD_INTERACTIVE=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s%v\n%s", commands, err, out[max(0, len(out)-6000):])
	}
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

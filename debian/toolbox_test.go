package debian_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/debian/partstest"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// TestToolbox runs the pinned helper programs in an empty environment.
func TestToolbox(t *testing.T) {
	b := partstest.New(t, "x64-uefi", debian.ToolsRequest)
	tools := b.Tools()
	root := b.Run(tools)
	w := b.Work(tools)
	for name, args := range map[string][]string{
		"grub-mkimage": {"--version"}, "grub-script-check": {"--version"},
	} {
		cmd, err := tools.Command(t.Context(), w, t.TempDir(), name, args...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !strings.HasPrefix(cmd.Path, root) {
			t.Errorf("%s is started with %s, from outside the toolbox", name, cmd.Path)
		}
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) || len(out) == 0 || bytes.Contains(out, []byte("error while loading")) {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
	if _, err := tools.Command(t.Context(), w, "/", "no-such-program"); fault.Of(err) != fault.Missing {
		t.Errorf("unknown program: %v", err)
	}
	if err := tools.Exec(t.Context(), w, "/", "grub-script-check", "/no/such/file"); err == nil || !strings.Contains(err.Error(), "no/such") {
		t.Errorf("a program's output is not in the error: %v", err)
	}
}

// TestToolboxIgnoresTheMachine checks that libraries and settings do not come from the
// machine.
func TestToolboxIgnoresTheMachine(t *testing.T) {
	b := partstest.New(t, "x64-uefi", debian.ToolsRequest)
	tools := b.Tools()
	b.Run(tools)
	t.Setenv("LD_LIBRARY_PATH", "/nonexistent")
	t.Setenv("GRUB_DEFAULT", "nonexistent")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("set a=b\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd, err := tools.Command(t.Context(), b.Work(tools), dir, "grub-script-check", "file")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range cmd.Env {
		if strings.HasPrefix(e, "LD_") || strings.HasPrefix(e, "GRUB_") {
			t.Errorf("environment has %s", e)
		}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

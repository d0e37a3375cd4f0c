package devices

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// TestCancelledBuild expects that a build that is cancelled is told so, with all that it has started, and that
// nobody waits for what still has its output.
func TestCancelledBuild(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script := filepath.Join(dir, "mage")
	text := "mkfifo pipe\ntrap 'touch ended; exit 1' TERM\nsh -c 'echo began; read word < pipe' &\nwait\n"
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := Options{Dir: dir, Env: os.Environ(), Say: func(string) { cancel() }}
	p := &promotion{run: &run{Options: o}, words: []string{"/bin/sh", script}}
	if err := p.mage(ctx, &Build{Name: "default"}, "x64-uefi", filepath.Join(dir, "out"), ""); fault.Of(err) != fault.Cancelled {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "ended")); err != nil {
		t.Errorf("the build was not told: %v", err)
	}
}

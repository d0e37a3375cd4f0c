//go:build unix

package scratch

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestForeignFIFO: somebody else's directory with a FIFO in place of the lock does not
// make a command wait.
func TestForeignFIFO(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	dir := filepath.Join(os.TempDir(), prefix+"fifo")
	old := time.Now().Add(-time.Hour)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, lockName), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(dir, old, old); err != nil {
		t.Fatal(err)
	}
	made, err := New(prefix)
	if err != nil {
		t.Fatal(err)
	}
	made.Remove()
	if _, err := os.Lstat(dir); err != nil {
		t.Errorf("a directory that is not ours is gone: %v", err)
	}
}

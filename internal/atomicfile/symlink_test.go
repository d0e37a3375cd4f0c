package atomicfile

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSymlink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "link")
	for _, target := range []string{"a", "b", "b"} {
		if err := os.WriteFile(path+".tmp", nil, 0o644); err != nil { // what a killed run left
			t.Fatal(err)
		}
		if err := Symlink(target, path); err != nil {
			t.Fatal(err)
		}
		if got, err := os.Readlink(path); got != target || err != nil {
			t.Errorf("the link points to %q, %v, want %q", got, err, target)
		}
	}
	busy := filepath.Join(dir, "directory")
	if err := os.MkdirAll(filepath.Join(busy, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Symlink("a", busy); err == nil {
		t.Error("a directory was replaced by a link")
	}
	if _, err := os.Lstat(busy + ".tmp"); err == nil {
		t.Error("a failed link leaves its temporary name behind")
	}
}

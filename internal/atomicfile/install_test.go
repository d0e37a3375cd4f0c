package atomicfile

import (
	"os"
	"path/filepath"
	"testing"
)

func TestInstall(t *testing.T) {
	dir := t.TempDir()
	path, growing := filepath.Join(dir, "name"), filepath.Join(dir, ".growing")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(growing)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("new"); err != nil {
		t.Fatal(err)
	}
	if err := Install(f, path); err != nil {
		t.Fatal(err)
	}
	expect(t, path, "new")
	if _, err := os.Lstat(growing); !os.IsNotExist(err) {
		t.Errorf("the first name stays: %v", err)
	}
	if _, err := f.Stat(); err != nil {
		t.Errorf("the file was closed: %v", err)
	}
	if err := Install(f, filepath.Join(dir, "missing", "name")); err == nil {
		t.Error("a directory that does not exist was not an error")
	}
}

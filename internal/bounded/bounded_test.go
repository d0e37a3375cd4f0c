package bounded

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestReadFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("four"), 0o644); err != nil {
		t.Fatal(err)
	}
	if b, err := ReadFile(path, 4); string(b) != "four" || err != nil {
		t.Errorf("at its limit: %q, %v", b, err)
	}
	if b, err := ReadFile(path, 3); b != nil || err == nil {
		t.Errorf("above its limit: %q, %v", b, err)
	}
	if _, err := ReadFile(path+".none", 4); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

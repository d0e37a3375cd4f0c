package scratch

import (
	"io"
	"os"
	"testing"
)

func TestUnnamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, err := Unnamed(dir, ".spool-")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("text"); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(io.NewSectionReader(f, 0, 10)); err != nil || string(text) != "text" {
		t.Errorf("it holds %q, %v", text, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}

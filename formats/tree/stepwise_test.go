package tree

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/pantavisor/pantavisor/internal/filestat"
)

// TestStepwise opens as on a kernel that cannot resolve a path below a directory.
func TestStepwise(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "d/f")
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "d"), 0o755), os.WriteFile(file, []byte("text"), 0o644)); err != nil {
		t.Fatal(err)
	}
	found, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer found.Close()
	st, err := filestat.OfFile(found)
	if err != nil {
		t.Fatal(err)
	}
	s := &source{root: dir, name: "d/f", id: st.ID}
	for name, open := range map[string]func() (*os.File, error){"at once": s.far, "stepwise": s.stepwise} {
		f, err := open()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		text, err := io.ReadAll(f)
		if err := errors.Join(err, f.Close()); err != nil || string(text) != "text" {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	if err := errors.Join(os.Rename(file, file+"2"), os.Symlink("f2", file)); err != nil {
		t.Fatal(err)
	}
	s.id.Ino++ // f2 is the file that was found: for the test, another
	for name, open := range map[string]func() (*os.File, error){"at once": s.far, "stepwise": s.stepwise} {
		if f, err := open(); err == nil {
			t.Errorf("%s: a link to another file was opened", name)
			f.Close()
		}
	}
}

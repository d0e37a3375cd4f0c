package ext4_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/pantavisor/pantavisor/formats/ext4"
	"github.com/pantavisor/pantavisor/formats/tree"
)

// TestLookup finds every file that was written, in directories with and without an index.
func TestLookup(t *testing.T) {
	t.Parallel()
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 16 << 20
	entries := []tree.Entry{{Name: "few", Mode: fs.ModeDir | 0o755}, {Name: "few/one", Mode: 0o644}, {Name: "many", Mode: fs.ModeDir | 0o755}}
	for i := range 500 {
		entries = append(entries, tree.Entry{Name: fmt.Sprintf("many/%0100d", i), Mode: 0o644})
	}
	if err := errors.Join(f.Truncate(size), ext4.Write(t.Context(), f, entries, ext4.Options{Size: size})); err != nil {
		t.Fatal(err)
	}
	fsys, err := ext4.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	if !fsys.Clean() {
		t.Error("a new file system was not unmounted")
	}
	for _, e := range entries {
		if got, err := fsys.Lookup(e.Name); err != nil || got.Mode != e.Mode {
			t.Errorf("%s: %v", e.Name, err)
		}
	}
	for _, name := range []string{"none", "few/none", "few/one/none", "many/0", ""} {
		if _, err := fsys.Lookup(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

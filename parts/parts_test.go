package parts

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/fault"
)

func TestParts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, pipe, empty := filepath.Join(dir, "file"), filepath.Join(dir, "pipe"), filepath.Join(dir, "empty")
	if err := os.WriteFile(file, []byte("stage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, kind := range map[string]fault.Kind{empty: fault.BadInput, dir: fault.BadInput, pipe: fault.BadInput, file + ".no": fault.Missing} {
		if _, err := (&File{Part: "bl1", Path: path}).Sources(); fault.Of(err) != kind {
			t.Errorf("%s: kind %v: %v", path, fault.Of(err), err)
		}
	}
	f := &File{Part: "bl1", Path: file, SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte("stage")))}
	w := build.NewWork(t.TempDir(), t.TempDir(), nil, nil)
	if err := f.Run(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(w.Out, Name)); err != nil || string(got) != "stage" {
		t.Errorf("%q, %v", got, err)
	}
	if err := os.Truncate(file, maxSize+1); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Sources(); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "at most 1073741824 are allowed") {
		t.Errorf("too large: kind %v: %v", fault.Of(err), err)
	}
	if err := os.Truncate(file, 5); err != nil {
		t.Fatal(err)
	}
	f.SHA256 = strings.Repeat("0", 64)
	if err := f.Run(t.Context(), w); fault.Of(err) != fault.Digest || !strings.Contains(err.Error(), "it is another file") {
		t.Errorf("another digest: kind %v: %v", fault.Of(err), err)
	}
}

package workspace

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// TestImportParts: what a lock names comes into the download cache, and nothing else.
func TestImportParts(t *testing.T) {
	t.Setenv("PV_CACHE_DIR", t.TempDir())
	w, out := empty(t)
	dir := t.TempDir()
	if err := w.ImportParts(t.Context(), dir); fault.Of(err) != fault.BadInput {
		t.Errorf("a directory without a lock: %v", err)
	}
	content := []byte("a package")
	sum := sha256.Sum256(content)
	lock := &debian.Lock{
		Requests: []debian.Request{{Name: "kernel", Suite: "bookworm", Arch: "amd64", Packages: []string{"x"}}},
		Packages: []debian.Entry{{
			Package: "x", Version: "1", Arch: "amd64", Suite: "bookworm", Path: "pool/main/x/x.deb", SHA256: hex.EncodeToString(sum[:]),
			Size: int64(len(content)), For: []string{"kernel/amd64"},
		}},
	}
	if err := lock.Save(filepath.Join(dir, "board.lock")); err != nil {
		t.Fatal(err)
	}
	if err := w.ImportParts(t.Context(), dir); fault.Of(err) != fault.Missing || !strings.Contains(err.Error(), "x=1:amd64") {
		t.Errorf("a package that is not there: %v", err)
	}
	file := filepath.Join(dir, partsDir, hex.EncodeToString(sum[:])+".deb")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("b package"), 0o644); err != nil {
		t.Fatal(err)
	}
	cache, err := build.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	store := debian.Open(cache, nil)
	if err := w.ImportParts(t.Context(), dir); fault.Of(err) != fault.Digest || store.Has(lock.Packages[0]) {
		t.Errorf("a package with another content: %v", err)
	}
	if err := os.WriteFile(file, content, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := w.ImportParts(t.Context(), dir); err != nil || !store.Has(lock.Packages[0]) || !strings.Contains(out.String(), "1 packages") {
		t.Errorf("%v: %s", err, out)
	}
}

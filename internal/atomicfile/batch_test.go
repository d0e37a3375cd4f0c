package atomicfile

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// fill stages n files in a new batch.
func fill(t *testing.T, dir string, n int) *Batch {
	t.Helper()
	b := NewBatch(dir)
	for i := range n {
		f, err := b.Create(0o640)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(f, "content %d", i)
		if err := b.Stage(f, fmt.Sprintf("f%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func count(t *testing.T, dir string) int {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestBatchCommit(t *testing.T) {
	for _, n := range []int{0, 1, syncAll + 3} {
		dir := t.TempDir()
		b := fill(t, dir, n)
		if _, err := os.Stat(filepath.Join(dir, "f0")); err == nil {
			t.Error("a name is visible before Commit")
		}
		if err := b.Commit(); err != nil {
			t.Fatal(err)
		}
		b.Abort()
		if count(t, dir) != n || b.Len() != 0 {
			t.Errorf("%d of %d files", count(t, dir), n)
		}
		for i := range n {
			path := filepath.Join(dir, fmt.Sprintf("f%d", i))
			info, err := os.Stat(path)
			if err != nil || info.Mode().Perm() != 0o640 {
				t.Fatalf("%v, %v", info, err)
			}
			if data, _ := os.ReadFile(path); string(data) != fmt.Sprintf("content %d", i) {
				t.Errorf("%s holds %q", path, data)
			}
		}
	}
}

func TestBatchAbort(t *testing.T) {
	dir := t.TempDir()
	b := fill(t, dir, 3)
	f, err := b.Create(0o600)
	if err != nil {
		t.Fatal(err)
	}
	b.Discard(f)
	b.Abort()
	if err := b.Commit(); err != nil || count(t, dir) != 0 {
		t.Errorf("%d files left, %v", count(t, dir), err)
	}
}

func TestBatchWithoutDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	if _, err := NewBatch(dir).Create(0o600); err == nil {
		t.Error("no error without a directory")
	}
	if err := SyncTree(dir); err == nil {
		t.Error("no error on a directory that is not there")
	}
}

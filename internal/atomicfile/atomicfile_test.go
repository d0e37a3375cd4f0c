package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// expect checks the content of path, and that nothing else lies beside it.
func expect(t *testing.T, path, want string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil || string(data) != want {
		t.Errorf("%s holds %q (%v), want %q", path, data, err, want)
	}
	names, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(names) != 1 {
		t.Errorf("the directory holds %v (%v), want one file", names, err)
	}
}

func TestWriteReplaces(t *testing.T) {
	for name, write := range map[string]func(string, []byte, os.FileMode) error{"Write": Write, "Replace": Replace} {
		path := filepath.Join(t.TempDir(), "file")
		for _, text := range []string{"one", "two, longer", ""} {
			if err := write(path, []byte(text), 0o640); err != nil {
				t.Fatal(err)
			}
			expect(t, path, text)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
		}
	}
}

func TestOldContentStaysUntilCommit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := Write(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := Create(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("half"); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "old" {
		t.Errorf("before Commit the file holds %q (%v)", data, err)
	}
	f.Abort()
	expect(t, path, "old")
}

func TestAbortAfterCommitKeepsTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	f, err := Create(path, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer expect(t, path, "new")
	defer f.Abort()
	if _, err := f.WriteString("new"); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
}

func TestErrors(t *testing.T) {
	dir := t.TempDir()
	if err := Write(filepath.Join(dir, "gone", "file"), nil, 0o644); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("writing into a directory that is not there: %v", err)
	}
	full := filepath.Join(dir, "directory")
	if err := os.MkdirAll(filepath.Join(full, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, write := range map[string]func(string, []byte, os.FileMode) error{"Write": Write, "Replace": Replace} {
		if err := write(full, []byte("x"), 0o644); err == nil {
			t.Errorf("%s: a directory was replaced by a file", name)
		}
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
		t.Errorf("the directory holds %v (%v), want nothing besides", names, err)
	}
	if err := SyncDir(filepath.Join(dir, "gone")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("syncing a directory that is not there: %v", err)
	}
}

// A sweep removes what killed writers left and nothing else.
func TestSweep(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	running, err := Create(filepath.Join(dir, "running"), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer running.Abort()
	for _, name := range []string{".dead.tmp-123", ".other.tmp-4", "dead", ".dead.tmp-", ".dead.tmp-12x", ".tmp-5"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		sweep func()
		gone  string
	}{{func() { SweepOf(filepath.Join(dir, "dead")) }, ".dead.tmp-123"}, {func() { Sweep(dir) }, ".other.tmp-4"}} {
		before, _ := os.ReadDir(dir)
		c.sweep()
		after, _ := os.ReadDir(dir)
		if _, err := os.Lstat(filepath.Join(dir, c.gone)); err == nil || len(after) != len(before)-1 {
			t.Errorf("%s: %v of %v are left", c.gone, after, before)
		}
	}
	if err := running.Commit(); err != nil {
		t.Errorf("a running writer: %v", err)
	}
}

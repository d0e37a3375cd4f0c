package record

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// sample is a current record of a directory with a.go and a program.
func sample(t *testing.T) (dir string, r *Record) {
	t.Helper()
	dir = t.TempDir()
	write(t, dir, "a.go")
	write(t, dir, "notes.txt")
	write(t, dir, "data/one")
	id, err := ID(filepath.Join(dir, "a.go"))
	if err != nil {
		t.Fatal(err)
	}
	return dir, &Record{
		Dir: dir, Settings: Settings(), Program: filepath.Join(dir, "notes.txt"),
		Files:  []File{{filepath.Join(dir, "a.go"), id}},
		Lists:  []List{{Path: dir, Names: []string{"a.go"}}, {Path: filepath.Join(dir, "data"), All: true, Names: []string{"one"}}},
		Absent: []string{filepath.Join(dir, "go.work")},
	}
}

func write(t *testing.T, dir, name string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(name), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestCurrent(t *testing.T) {
	for name, c := range map[string]struct {
		change func(t *testing.T, dir string)
		want   bool
	}{
		"nothing":     {func(*testing.T, string) {}, true},
		"a test":      {func(t *testing.T, dir string) { write(t, dir, "a_test.go") }, true},
		"mage's file": {func(t *testing.T, dir string) { write(t, dir, Generated) }, true},
		"a document":  {func(t *testing.T, dir string) { write(t, dir, "b.txt") }, true},
		"a source":    {func(t *testing.T, dir string) { write(t, dir, "b.go") }, false},
		"assembly":    {func(t *testing.T, dir string) { write(t, dir, "b.s") }, false},
		"embedded":    {func(t *testing.T, dir string) { write(t, dir, "data/two") }, false},
		"a workspace": {func(t *testing.T, dir string) { write(t, dir, "go.work") }, false},
		"other times": {func(t *testing.T, dir string) {
			_ = os.Chtimes(filepath.Join(dir, "a.go"), time.Time{}, time.Unix(1, 0))
		}, false},
		"a file gone":    {func(_ *testing.T, dir string) { _ = os.Remove(filepath.Join(dir, "a.go")) }, false},
		"program gone":   {func(_ *testing.T, dir string) { _ = os.Remove(filepath.Join(dir, "notes.txt")) }, false},
		"directory gone": {func(_ *testing.T, dir string) { _ = os.RemoveAll(filepath.Join(dir, "data")) }, false},
		"setting":        {func(t *testing.T, _ string) { t.Setenv("GOFLAGS", "-tags=x") }, false},
		"other variable": {func(t *testing.T, _ string) { t.Setenv("PANTAVISOR_DEBUG", "yes") }, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir, r := sample(t)
			if !r.Current() {
				t.Fatal("the record is not current from the start")
			}
			c.change(t, dir)
			if got := r.Current(); got != c.want {
				t.Errorf("current: %v", got)
			}
		})
	}
}

func TestReadWhatWasEncoded(t *testing.T) {
	dir, r := sample(t)
	text, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	path := Place(t.TempDir(), dir)
	read := func(text string) *Record {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return Read(path, dir)
	}
	if d := cmp.Diff(r, read(string(text))); d != "" {
		t.Error(d)
	}
	if Read(path, "/elsewhere") != nil || Read(filepath.Join(dir, "none"), dir) != nil {
		t.Error("a record of another directory counts")
	}
	for name, damaged := range map[string]string{
		"empty": "", "cut": string(text[:len(text)-5]), "unknown line": strings.Replace(string(text), "absent", "abs", 1),
		"other form": strings.Replace(string(text), header, "mage record 0", 1), "short line": strings.Replace(string(text), "program\t", "program", 1),
		"no program": strings.Replace(string(text), "program\t"+r.Program, "program\t", 1),
	} {
		if read(damaged) != nil {
			t.Errorf("%s: a damaged record counts", name)
		}
	}
	for _, bad := range []string{"a\tb", "a\nb"} {
		r.Absent = []string{bad}
		if _, err := r.Encode(); err == nil {
			t.Errorf("%q is encoded", bad)
		}
	}
}

func TestPlacesDiffer(t *testing.T) {
	if Place("/c", "/a") == Place("/c", "/b") || filepath.Dir(Place("/c", "/a")) != "/c/mage/records" {
		t.Error(Place("/c", "/a"), Place("/c", "/b"))
	}
}

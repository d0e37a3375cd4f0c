package build

import (
	"path/filepath"
	"testing"
)

// TestDirectoriesAddUp checks that the key depends on the files that count, not on the
// directories in which they are.
func TestDirectoriesAddUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	place := func(name string, files map[string]string) string {
		for file, text := range files {
			write(t, filepath.Join(dir, name, file), text)
		}
		return filepath.Join(dir, name)
	}
	one := place("one", map[string]string{"a": "upper", "sub/b": "b", "c": "c"})
	upper := place("upper", map[string]string{"a": "upper", "sub/b": "b"})
	lower := place("lower", map[string]string{"a": "lower", "c": "c"})
	key := func(s Source) string {
		s.Name = "skel"
		b, _ := builder(t, t.TempDir())
		return build(t, b, &step{name: "s", files: []Source{s}}).Step("s").Record.Key
	}
	whole, both := key(Source{Path: one}), Source{Path: upper, Under: []string{lower}}
	if key(both) != whole {
		t.Error("the same files in two directories give another key")
	}
	if key(Source{Path: lower, Under: []string{upper}}) == whole {
		t.Error("the order of directories does not count")
	}
	for file, want := range map[string]string{"a": upper, "c": lower, "none": upper} {
		if got := both.File(file); got != filepath.Join(want, file) {
			t.Errorf("%s is %s", file, got)
		}
	}
}

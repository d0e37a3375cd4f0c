package entry

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEntry(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), Dir)
	long := strings.Repeat("n", 255)
	for name, want := range map[string]Entry{"app": {PID: 12}, "filtered": {34, []byte("code\nof a filter\x00")}, long: {PID: 1}} {
		for range 2 { // the second replaces the first
			if err := Write(dir, name, want); err != nil {
				t.Fatal(err)
			}
		}
		got, err := Read(dir, name)
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("%v\n%s", err, d)
		}
		Remove(dir, name)
		if _, err := Read(dir, name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after removal: %v", err)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestBadEntries(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, text := range []string{"", "12", "x\n", "-1\n", "0\n", "1\n" + strings.Repeat("x", maxEntry)} {
		if err := os.WriteFile(filepath.Join(dir, "app"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if e, err := Read(dir, "app"); err == nil {
			t.Errorf("%.20q is read as %v", text, e)
		}
	}
	for _, name := range []string{"", ".", "..", "../app", "a/b", ".hidden", "a\x00"} {
		if _, err := Read(dir, name); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the name %q: %v", name, err)
		}
		if err := Write(dir, name, Entry{PID: 1}); err == nil {
			t.Errorf("the name %q was taken", name)
		}
	}
}

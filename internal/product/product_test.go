package product

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/ci"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// options are those for the checkout that this test is in.
func options(t *testing.T, dir string) Options {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return Options{Dir: dir, Tool: "github.com/pantavisor/pantavisor", ToolDir: root, From: root, Taken: []string{"board"}}
}

func TestAllOrNothing(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	o := options(t, filepath.Join(top, "Board"))
	r, err := Make(t.Context(), o)
	if err != nil || r.Target != "my-board" {
		t.Fatalf("%v, %v", r, err)
	}
	for _, name := range []string{"go.mod", "go.sum", "magefile.go", "targets/my-board/target.yaml", ".gitlab-ci.yml"} {
		text, err := os.ReadFile(filepath.Join(o.Dir, name))
		if err != nil || strings.Contains(string(text), "{{.") || strings.Contains(string(text), "<no value>") {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
	for _, s := range ci.Systems() {
		text, err := os.ReadFile(filepath.Join(o.Dir, s.Path("product")))
		if want, _ := s.Text("product"); err != nil || string(text) != string(want) {
			t.Errorf("the pipeline of %s is not the template: %v\n%s", s, err, text)
		}
	}
	if text, err := os.ReadFile(filepath.Join(o.Dir, ".github/workflows/build.yml")); err != nil || !strings.Contains(string(text), "target: my-board\n") {
		t.Errorf("%v\n%s", err, text)
	}
	broken := options(t, filepath.Join(top, "other"))
	broken.Tool = "example.test/none" // the go command will not find it
	if _, err := Make(t.Context(), broken); fault.Of(err) != fault.Missing {
		t.Errorf("got %v", err)
	}
	full := filepath.Join(top, "full")
	if err := os.MkdirAll(filepath.Join(full, "config"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Make(t.Context(), options(t, full)); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "config") {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(top); err != nil || len(left) != 2 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if left, err := os.ReadDir(full); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestMovesAllEntriesOrNone has an entry appear while the others are moved.
func TestMovesAllEntriesOrNone(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), t.TempDir()
	for _, name := range []string{"a", "b", "go.mod"} {
		if err := os.WriteFile(filepath.Join(from, name), []byte("new"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(to, "b"), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := moveInto(from, to); err == nil {
		t.Error("an entry was overwritten")
	}
	if left, err := os.ReadDir(to); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for base, want := range map[string]string{"My Product": "my-product", "...": "product", "a_b.c": "a_b.c", "Ünï": "n", "board": "my-board"} {
		if got := targetName(base, []string{"board"}); got != want {
			t.Errorf("%q: %q, want %q", base, got, want)
		}
	}
}

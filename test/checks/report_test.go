package checks

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestReport runs go test on a module with tests of each kind.
func TestReport(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":           "module example.com/m\n\ngo 1.26\n",
		"a/a_test.go":      "package a\n\nimport \"testing\"\n\nfunc TestGood(t *testing.T) {}\n\nfunc TestBad(t *testing.T) { t.Run(\"x\", func(t *testing.T) { t.Error(\"so it is\") }) }\n\nfunc TestLate(t *testing.T) { t.Skip(\"not today\") }\n",
		"b/b_test.go":      "package b\n\nfunc broken( {}\n",
		"c/c_test.go":      "package c\n\nimport (\n\t\"os\"\n\t\"testing\"\n)\n\nfunc TestMain(*testing.M) { os.Exit(3) }\n",
		"none/none.go":     "package none\n",
		"good/good.go":     "package good\n",
		"good/g_test.go":   "package good\n\nimport \"testing\"\n\nfunc TestFine(t *testing.T) { t.Log(\"quiet\") }\n",
		"unused/README.md": "no package\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-json", "-vet=off", "./...")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	out, _ := cmd.Output() // it fails: so does a test
	var printed strings.Builder
	r := newTests(&printed)
	if err := r.read(strings.NewReader("go: a word before\n" + string(out))); err != nil {
		t.Fatal(err)
	}
	type verdict struct{ Class, Name, What string }
	var got []verdict
	for _, c := range r.suite().Cases {
		v := verdict{c.Class, c.Name, "passed"}
		switch {
		case c.Failure != "":
			v.What = "failed"
		case c.Skip != "":
			v.What = "skipped"
		}
		got = append(got, v)
	}
	want := []verdict{
		{"example.com/m/a", "TestBad", "failed"}, {"example.com/m/a", "TestBad/x", "failed"}, {"example.com/m/a", "TestGood", "passed"},
		{"example.com/m/a", "TestLate", "skipped"}, {"example.com/m/b", "package", "failed"}, {"example.com/m/c", "package", "failed"},
		{"example.com/m/good", "TestFine", "passed"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s\n%s", diff, out)
	}
	for _, text := range []string{"go: a word before", "so it is", "ok  \texample.com/m/good", "b_test.go:3"} {
		if !strings.Contains(printed.String(), text) {
			t.Errorf("%q is not printed:\n%s", text, printed.String())
		}
	}
	for _, text := range []string{"=== RUN   TestGood", "quiet"} {
		if strings.Contains(printed.String(), text) {
			t.Errorf("%q is printed:\n%s", text, printed.String())
		}
	}
	if s := r.suite(); s.Cases[1].Failure == "" || !strings.Contains(s.Cases[1].Failure, "so it is") {
		t.Errorf("%+v", s)
	}
}

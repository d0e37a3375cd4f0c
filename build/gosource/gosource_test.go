package gosource

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// module writes a module and opens it.
func module(t *testing.T, files map[string]string) *Module {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

var sample = map[string]string{
	"go.mod":               "module example.org/m\n\ngo 1.26\n",
	"go.sum":               "",
	"cmd/x/main.go":        "package main\n\nimport (\n\t\"fmt\"\n\n\t\"example.org/m/a\"\n)\n\nfunc main() { fmt.Println(a.A()) }\n",
	"cmd/x/main_test.go":   "package main\n\nimport _ \"example.org/m/unused\"\n",
	"a/a.go":               "package a\n\nimport (\n\t_ \"embed\"\n\n\t\"example.org/m/b\"\n)\n\n//go:embed data\nvar _ string\n\nfunc A() int { return b.B }\n",
	"a/data":               "x",
	"a/other":              "x",
	"b/b.go":               "package b\n\nconst B = 1\n",
	"b/b_arm64.go":         "package b\n\nimport _ \"example.org/m/c\"\n",
	"b/b_tag.go":           "//go:build special\n\npackage b\n",
	"b/b_windows.go":       "package b\n",
	"b/b_amd64.s":          "// empty\n",
	"c/c.go":               "package c\n\nimport \"embed\"\n\n//go:embed tree all:every\nvar F embed.FS\n",
	"c/tree/one":           "1",
	"c/tree/.hidden":       "1",
	"c/tree/_sub/two":      "1",
	"c/every/.hidden":      "1",
	"unused/unused.go":     "package unused\n",
	"broken/broken.go":     "package broken\n\nimport (\n",
	"missing/m.go":         "package missing\n\nimport _ \"embed\"\n\n//go:embed nothing\nvar x string\n",
	"onlywin/w_windows.go": "package onlywin\n",
}

func namesOf(files []File) []string {
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = f.Name
	}
	return names
}

func TestFiles(t *testing.T) {
	m := module(t, sample)
	base := []string{"a/a.go", "a/data", "b/b.go", "cmd/x/main.go", "go.mod", "go.sum"}
	for _, c := range []struct {
		platform Platform
		more     []string
	}{
		{Platform{GOARCH: "amd64"}, []string{"b/b_amd64.s"}},
		{Platform{GOARCH: "riscv64"}, nil},
		{Platform{GOARCH: "riscv64", Tags: []string{"special"}}, []string{"b/b_tag.go"}},
		{Platform{GOARCH: "arm64"}, []string{"b/b_arm64.go", "c/c.go", "c/every/.hidden", "c/tree/one"}},
	} {
		got, err := m.Files("cmd/x", c.platform)
		if err != nil {
			t.Fatal(err)
		}
		want := slices.Sorted(slices.Values(append(slices.Clone(base), c.more...)))
		if diff := cmp.Diff(want, namesOf(got)); diff != "" {
			t.Errorf("%+v: %s", c.platform, diff)
		}
	}
}

// TestReplacedModules follows imports into directories that go.mod names, and only there.
func TestReplacedModules(t *testing.T) {
	t.Parallel()
	files := map[string]string{
		"go.mod": "module example.org/m\n\ngo 1.26\n\nrequire (\n\texample.org/n v0.0.0\n\texample.org/n/deep v0.0.0\n\texample.org/p v1.0.0\n)\n\n" +
			"replace (\n\texample.org/n => ./n\n\texample.org/n/deep => ./deep\n\texample.org/p v1.0.0 => example.org/q v1.0.0\n)\n",
		"cmd/x/main.go": "package main\n\nimport (\n\t_ \"example.org/n/a\"\n\t_ \"example.org/p\"\n)\n\nfunc main() {}\n",
		"n/go.mod":      "module example.org/n\n",
		"n/go.sum":      "",
		"n/a/a.go":      "package a\n\nimport _ \"example.org/n/deep\"\n",
		"deep/go.mod":   "module example.org/n/deep\n",
		"deep/d.go":     "package deep\n",
	}
	m := module(t, files)
	got, err := m.Files("cmd/x", Platform{GOARCH: "amd64"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"cmd/x/main.go", "example.org/n/a/a.go", "example.org/n/deep/d.go", "example.org/n/deep/go.mod", "example.org/n/go.mod", "example.org/n/go.sum", "go.mod"}
	if diff := cmp.Diff(want, namesOf(got)); diff != "" {
		t.Error(diff)
	}
	for _, f := range got {
		if _, err := os.Stat(f.Path); err != nil || strings.HasPrefix(f.Name, "example.org/n/a") && f.Path != filepath.Join(m.Root(), "n/a/a.go") {
			t.Errorf("%s is %s: %v", f.Name, f.Path, err)
		}
	}
}

func TestMistakes(t *testing.T) {
	m := module(t, sample)
	for dir, kind := range map[string]fault.Kind{
		"nowhere": fault.Missing, "broken": fault.BadInput, "missing": fault.BadInput, "onlywin": fault.Missing,
	} {
		if _, err := m.Files(dir, Platform{GOARCH: "amd64"}); fault.Of(err) != kind || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: got %v of kind %v, want %v", dir, err, fault.Of(err), kind)
		}
	}
	if _, err := Open(t.TempDir()); fault.Of(err) != fault.Missing {
		t.Errorf("got %v", err)
	}
}

// TestAgreesWithGo compares the result with the go command's for this repository.
func TestAgreesWithGo(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	const dir = "targets" // it embeds files and is linked into the build
	list := exec.Command("go", "list", "-deps", "-f",
		`{{if not .Standard}}{{$d := .Dir}}{{range .GoFiles}}{{$d}}/{{.}}{{"\n"}}{{end}}{{range .EmbedFiles}}{{$d}}/{{.}}{{"\n"}}{{end}}{{end}}`, "./"+dir)
	list.Dir = root
	list.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm64")
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"go.mod", "go.sum"}
	for path := range strings.FieldsSeq(string(out)) {
		if rel, err := filepath.Rel(root, path); err == nil && filepath.IsLocal(rel) {
			want = append(want, filepath.ToSlash(rel))
		}
	}
	slices.Sort(want)
	m, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	got, err := m.Files(dir, Platform{GOARCH: "arm64"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, namesOf(got)); diff != "" {
		t.Error(diff)
	}
}

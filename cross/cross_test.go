package cross_test

import (
	"bytes"
	"debug/elf"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/cross"
	"github.com/pantavisor/pantavisor/fault"
	"github.com/pantavisor/pantavisor/targets"
)

// module writes a small module whose program imports one package with tests and
// one that embeds a file.
func module(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example.test/m\n\ngo 1.26\n", "go.sum": "",
		"cmd/tool/main.go":    "package main\n\nimport (\n\t\"example.test/m/near\"\n\t\"example.test/m/data\"\n)\n\nfunc main() { println(near.Word, data.Text) }\n",
		"near/near.go":        "package near\n\nconst Word = \"word\"\n",
		"near/near_test.go":   "package near\n",
		"near/notes.txt":      "not read",
		"data/data.go":        "package data\n\nimport _ \"embed\"\n\n//go:embed text/a.txt\nvar Text string\n",
		"data/text/a.txt":     "text",
		"elsewhere/unused.go": "package elsewhere\n",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func run(t *testing.T, p *cross.Program) ([]byte, error) {
	t.Helper()
	out := t.TempDir()
	if err := p.Run(t.Context(), build.NewWork(out, t.TempDir(), nil, nil)); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(out, p.File()))
	if err != nil {
		t.Fatal(err)
	}
	return data, nil
}

func TestSourcesAreWhatTheProgramImports(t *testing.T) {
	got, err := cross.New(module(t), "cmd/tool", targets.Arch{Go: "amd64"}).Sources()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range got {
		names = append(names, s.Name)
	}
	want := []string{"cmd/tool/main.go", "data/data.go", "data/text", "go.mod", "go.sum", "near/near.go"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}

func TestProgramIsTheSameFromTwoPaths(t *testing.T) {
	arch := targets.Arch{Go: "arm", ARM: "6"}
	t.Setenv("GOARCH", "riscv64")
	t.Setenv("GOFLAGS", "-race")
	first, err := run(t, cross.New(module(t), "cmd/tool", arch))
	if err != nil {
		t.Fatal(err)
	}
	second, err := run(t, cross.New(module(t), "cmd/tool", arch))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("programs differ")
	}
	f, err := elf.NewFile(bytes.NewReader(first))
	if err != nil {
		t.Fatal(err)
	}
	if f.Machine != elf.EM_ARM || f.Section(".interp") != nil || f.Section(".symtab") != nil {
		t.Errorf("machine %v: want a static, stripped program for arm", f.Machine)
	}
}

func TestBrokenSourceSaysWhere(t *testing.T) {
	root := module(t)
	path := filepath.Join(root, "near/near.go")
	if err := os.WriteFile(path, []byte("package near\n\nconst Word = nothing\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := run(t, cross.New(root, "cmd/tool", targets.Arch{Go: "amd64"}))
	if fault.Of(err) != fault.BadInput || !bytes.Contains([]byte(err.Error()), []byte("near/near.go:3")) {
		t.Errorf("got %v", err)
	}
}

func TestOtherToolchainIsRefused(t *testing.T) {
	p := cross.New(module(t), "cmd/tool", targets.Arch{Go: "amd64"})
	p.Toolchain = "go1.1"
	if _, err := run(t, p); fault.Of(err) != fault.Missing {
		t.Errorf("got %v", err)
	}
}

func TestMissingPackageIsAnError(t *testing.T) {
	if _, err := cross.New(module(t), "cmd/none", targets.Arch{Go: "amd64"}).Sources(); fault.Of(err) == 0 {
		t.Error("no error")
	}
}

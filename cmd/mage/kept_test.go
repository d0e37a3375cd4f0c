package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/cmd/mage/internal/record"
)

// product makes the workspace of a product in a new directory: a module that takes mage
// from this one and commands from a further one beside it, both by replace lines.
func product(t *testing.T, cache string) *workspace {
	t.Helper()
	top := t.TempDir()
	own, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	p := &workspace{t, filepath.Join(top, "product"), cache}
	mod, sum := read(t, "../../go.mod"), read(t, "../../go.sum")
	mod = regexp.MustCompile(`(?m)^module .*`).ReplaceAllString(mod, "module example.test/product")
	mod += "\nrequire (\n\tgithub.com/pantavisor/pantavisor v0.0.0\n\texample.test/tasks v0.0.0\n)\n" +
		"replace (\n\tgithub.com/pantavisor/pantavisor => " + own + "\n\texample.test/tasks => ../tasks\n)\n"
	p.write("go.mod", mod)
	p.write("go.sum", sum)
	p.write("magefile.go", "//go:build mage\n\n// Product.\npackage main\n\nimport (\n\t\"fmt\"\n\n\t\"example.test/product/words\"\n\t\"example.test/tasks\"\n)\n\n"+
		"// Say speaks.\nfunc Say() { fmt.Println(words.Text, tasks.Text()) }\n\n// Fail fails.\nfunc Fail() error { return fmt.Errorf(\"no\") }\n")
	p.write("words/words.go", "package words\n\nconst Text = \"one\"\n")
	p.write("../tasks/go.mod", "module example.test/tasks\n\ngo 1.26\n")
	p.write("../tasks/tasks.go", "package tasks\n\nimport _ \"embed\"\n\n//go:embed text\nvar text string\n\nfunc Text() string { return text }\n")
	p.write("../tasks/text", "task")
	return p
}

type workspace struct {
	t          *testing.T
	dir, cache string
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (w *workspace) write(name, text string) {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func (w *workspace) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(w.t.Context(), os.Args[0], args...)
	cmd.Dir = w.dir
	cmd.Env = append(os.Environ(), "BE_MAGE=yes", "PV_CACHE_DIR="+w.cache,
		"MAGEFILE_VERBOSE=0", "MAGEFILE_LIST=0", "MAGEFILE_HELP=0", "MAGEFILE_TIMEOUT=") // as below another mage
	return cmd
}

// mage runs mage and returns its exit code and what it prints.
func (w *workspace) mage(args ...string) (code int, out, errors string) {
	w.t.Helper()
	cmd := w.command(args...)
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	_ = cmd.Run()
	return cmd.ProcessState.ExitCode(), o.String(), e.String()
}

func (w *workspace) says(want string) {
	w.t.Helper()
	if code, out, said := w.mage("say"); code != 0 || out != want+"\n" {
		w.t.Errorf("mage say: exit code %d, %q, want %q\n%s", code, out, want, said)
	}
}

// programs are the programs that are kept.
func (w *workspace) programs() []string {
	found, _ := filepath.Glob(filepath.Join(w.cache, "mage/programs/*"))
	return found
}

// TestProgramFollowsItsSources changes everything that enters a program.
func TestProgramFollowsItsSources(t *testing.T) {
	t.Parallel()
	w := product(t, t.TempDir())
	w.says("one task")
	w.write("words/words.go", "package words\n\nconst Text = \"two\"\n")
	w.says("two task")
	w.write("../tasks/text", "job")
	w.says("two job")
	w.write("words/more.go", "package words\n\nimport \"os\"\n\nfunc init() { os.Stdout.WriteString(\"and \") }\n")
	w.says("and two job")
	before := w.programs()
	if err := os.Remove(filepath.Join(w.dir, "words/more.go")); err != nil {
		t.Fatal(err)
	}
	w.says("two job")
	w.write("README.md", "a document enters nothing")
	w.says("two job")
	other := product(t, w.cache)
	other.says("one task")
	if d := cmp.Diff(before, w.programs()); d != "" || len(before) != 4 {
		t.Errorf("what was made before is made again:\n%s", d)
	}
	if left, _ := filepath.Glob(filepath.Join(w.dir, record.Generated)); left != nil {
		t.Errorf("left behind: %s", left)
	}
	w.write("words/words.go", "package words\n\nconst Text = 1 +\n")
	if code, _, said := w.mage("say"); code == 0 || !strings.Contains(said, "words.go:4") {
		t.Errorf("a mistake: exit code %d\n%s", code, said)
	}
}

// TestManyAtOnce starts commands in one checkout, none of which finds a program.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	w := product(t, t.TempDir())
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() { w.says("one task") })
	}
	all.Wait()
	if n := len(w.programs()); n != 1 {
		t.Errorf("%d programs are kept", n)
	}
}

// TestKeptProgramNeedsNoGo takes the go command away.
func TestKeptProgramNeedsNoGo(t *testing.T) {
	t.Parallel()
	w := product(t, t.TempDir())
	w.says("one task")
	w.settle()
	w.says("one task") // notes what the program was made of
	cmd := w.command("say")
	cmd.Env = append(cmd.Env, "PATH=/nonexistent")
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "one task\n" {
		t.Errorf("%v: %s", err, out)
	}
	cmd = w.command("-f", "say")
	cmd.Env = append(cmd.Env, "PATH=/nonexistent")
	var exit *exec.ExitError
	if out, err := cmd.CombinedOutput(); !errors.As(err, &exit) || !strings.Contains(string(out), "looking for go") {
		t.Errorf("-f does not compile: %v: %s", err, out)
	}
}

// TestWithoutMagefile has the commands of this module in a directory of nothing, and in a
// product whose sources cannot be written.
func TestWithoutMagefile(t *testing.T) {
	t.Parallel()
	w := &workspace{t, t.TempDir(), t.TempDir()}
	if code, out, said := w.mage("targets"); code != 0 || !strings.Contains(out, "x64-uefi") {
		t.Errorf("mage targets: exit code %d, %q, %q", code, out, said)
	}
	if names, err := os.ReadDir(w.dir); err != nil || len(names) != 0 {
		t.Errorf("left behind: %v, %v", names, err)
	}
	w.write("other.go", "package other\n")
	if code, out, said := w.mage("-h", "build"); code != 0 || !strings.Contains(out, "mage build") {
		t.Errorf("mage -h build: exit code %d, %q, %q", code, out, said)
	}
}

// TestReadOnlySources compiles where nothing can be written, not even by root.
func TestReadOnlySources(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("mounts: needs root")
	}
	w := product(t, t.TempDir())
	w.says("one task") // fills the caches of the go command
	cmd := w.command("-f", "say")
	cmd.Args = append([]string{"unshare", "--mount", "sh", "-ec", "mount --bind $0 $0; mount -o remount,bind,ro $0; cd $0; ! touch x 2>/dev/null; exec \"$@\"", w.dir}, cmd.Args...)
	cmd.Path, cmd.Err = "/usr/bin/unshare", nil
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "one task\n" {
		t.Errorf("%v: %s", err, out)
	}
}

// settle makes all files old enough for a record to be believed.
func (w *workspace) settle() {
	w.t.Helper()
	for _, name := range []string{".", "../tasks"} {
		script := "find " + name + " -type f -exec touch -d '1 hour ago' {} +; sleep 2.1"
		cmd := exec.CommandContext(w.t.Context(), "sh", "-c", script)
		cmd.Dir = w.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			w.t.Fatalf("%v: %s", err, out)
		}
	}
}

// TestMageItself does what is more than to run commands.
func TestMageItself(t *testing.T) {
	t.Parallel()
	w := product(t, t.TempDir())
	for _, c := range []struct {
		args      string
		code      int
		out, said string
	}{
		{"-l", 0, "Product.\n\nTargets:\n  fail    fails.\n  say     speaks.\n", ""},
		{"-h say", 0, "Say speaks.\n\nUsage:\n\n\tmage say\n\n", ""},
		{"-v say", 0, "one task\n", "Running target: Say\n"},
		{"fail", 1, "", "Error: no\n"},
		{"-t 1x say", 1, "invalid value", "flag -t: parse error"},
		{"-version", 0, "Mage Build Tool", ""},
		{"-autocomplete", 0, "fail\nsay\n", ""},
		{"-nonsense", 1, "", "flag provided but not defined"},
		{"nonsense", 2, "", "Unknown target specified"},
		{"-d words say", 1, "", "has no magefile"},
	} {
		code, out, said := w.mage(strings.Fields(c.args)...)
		if code != c.code || !strings.HasPrefix(out, c.out) || !strings.Contains(said, c.said) {
			t.Errorf("mage %s: exit code %d, %q, %q", c.args, code, out, said)
		}
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]command{
		"":                    {dir: ".", workDir: ".", words: []string{}},
		"build x --json":      {dir: ".", workDir: ".", words: []string{"build", "x", "--json"}},
		"-v -d a build":       {dir: "a", workDir: "a", set: []string{"MAGEFILE_VERBOSE=1"}, words: []string{"build"}},
		"--d=a -w b -f build": {dir: "a", workDir: "b", force: true, words: []string{"build"}},
		"-t 5m -l":            {dir: ".", workDir: ".", set: []string{"MAGEFILE_TIMEOUT=5m", "MAGEFILE_LIST=1"}, words: []string{}},
		"-h build":            {dir: ".", workDir: ".", set: []string{"MAGEFILE_HELP=1"}, words: []string{"build"}},
	} {
		got, ok := parse(strings.Fields(args))
		if d := cmp.Diff(want, got, cmp.AllowUnexported(command{})); !ok || d != "" {
			t.Errorf("%q: %v\n%s", args, ok, d)
		}
	}
	for _, args := range []string{"-h", "-h a b", "-version", "-init", "-clean", "-compile x", "-debug a", "-keep a", "-v=false a", "-t", "-d", "-t x a", "-d= a"} {
		if _, ok := parse(strings.Fields(args)); ok {
			t.Errorf("%q is not left to mage", args)
		}
	}
}

// TestImportsLittle: the go command checks each package at every start of "go tool mage".
func TestImportsLittle(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	if n := len(strings.Fields(string(out))); n > 68 {
		t.Errorf("%d packages:\n%s", n, out)
	}
}

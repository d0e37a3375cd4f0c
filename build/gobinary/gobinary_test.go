package gobinary

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/build/gosource"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/targets"
)

// module writes a module with one program.
func module(t *testing.T, program string) *gosource.Module {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module example.org/m\n\ngo 1.26\n", "cmd/hello/main.go": program} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m, err := gosource.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

const hello = "package main\n\nvar who = \"x\"\n\nfunc main() { println(who) }\n"

// compile builds in a separate cache and returns the binary.
func compile(t *testing.T, s *Step) ([]byte, error) {
	t.Helper()
	cache, err := build.OpenCache(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	res, err := (&build.Builder{Cache: cache}).Build(t.Context(), s)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(res.Dir(s), "bin", "hello"))
}

func TestArchitecturesAndReproducibility(t *testing.T) {
	for _, c := range []struct {
		arch targets.Arch
		want elf.Machine
	}{
		{targets.Arch{Go: "amd64"}, elf.EM_X86_64},
		{targets.Arch{Go: "mipsle", MIPS: "softfloat"}, elf.EM_MIPS},
	} {
		one, err := compile(t, New(module(t, hello), "cmd/hello", c.arch))
		if err != nil {
			t.Fatal(err)
		}
		f, err := elf.NewFile(bytes.NewReader(one))
		if err != nil {
			t.Fatal(err)
		}
		if f.Machine != c.want || f.Section(".symtab") != nil || f.Section(".interp") != nil {
			t.Errorf("%s: machine %v, want %v; symbols or an interpreter", c.arch, f.Machine, c.want)
		}
		two, err := compile(t, New(module(t, hello), "cmd/hello", c.arch))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(one, two) {
			t.Errorf("%s: binaries from two paths differ", c.arch)
		}
	}
}

// TestRelease checks that a program contains the release it was given, and that without
// one a changed comment does not change the program.
func TestRelease(t *testing.T) {
	source := strings.ReplaceAll(hello, "who", "release")
	given := New(module(t, source), "cmd/hello", targets.Arch{Go: "amd64"})
	given.Release = "1.0-rc1+board"
	if data, err := compile(t, given); err != nil || !bytes.Contains(data, []byte("1.0-rc1+board")) {
		t.Errorf("the program does not know its release: %v", err)
	}
	var programs [][]byte
	for _, text := range []string{source, source + "\n// changed\n"} {
		data, err := compile(t, New(module(t, text), "cmd/hello", targets.Arch{Go: runtime.GOARCH}))
		if err != nil {
			t.Fatal(err)
		}
		programs = append(programs, data)
	}
	if !bytes.Equal(programs[0], programs[1]) {
		t.Error("a comment changed the program")
	}
	program := filepath.Join(t.TempDir(), "hello")
	if err := os.WriteFile(program, programs[0], 0o755); err != nil {
		t.Fatal(err)
	}
	if said, err := exec.Command(program).CombinedOutput(); err != nil || string(said) != unreleased+"\n" {
		t.Errorf("the program calls itself %q: %v", said, err)
	}
}

func TestProgramThatDoesNotCompile(t *testing.T) {
	_, err := compile(t, New(module(t, "package main\n\nfunc main() { nothing() }\n"), "cmd/hello", targets.Arch{Go: "amd64"}))
	if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "undefined: nothing") || !strings.Contains(err.Error(), "go/hello/amd64") {
		t.Errorf("got %v of kind %v", err, fault.Of(err))
	}
}

func TestMissingGo(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := compile(t, New(module(t, hello), "cmd/hello", targets.Arch{Go: "amd64"}))
	if fault.Of(err) != fault.Missing || !strings.Contains(err.Error(), "install Go") {
		t.Errorf("got %v of kind %v", err, fault.Of(err))
	}
}

// TestUserSettingsDoNotMatter builds with settings that would change the program.
func TestUserSettingsDoNotMatter(t *testing.T) {
	arch := targets.Arch{Go: "amd64"}
	plain, err := compile(t, New(module(t, hello), "cmd/hello", arch))
	if err != nil {
		t.Fatal(err)
	}
	cache, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	if err := os.MkdirAll(filepath.Join(home, ".config/go"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".config/go/env"), []byte("GOAMD64=v3\nGOFIPS140=latest\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"HOME": home, "GOCACHE": strings.TrimSpace(string(cache)), "GOARCH": "riscv64", "GOFLAGS": "-race", "GOAMD64": "v4",
	} {
		t.Setenv(name, value)
	}
	set, err := compile(t, New(module(t, hello), "cmd/hello", arch))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(plain, set) {
		t.Error("the user's settings change the program")
	}
}

// TestHeapWithoutHugePages reads from the kernel that a program's heap has no huge pages
// (proc(5), smaps: VmFlags "nh" is "no huge page").
func TestHeapWithoutHugePages(t *testing.T) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("runs a program for linux on amd64")
	}
	data, err := compile(t, New(module(t, smaps), "cmd/hello", targets.Arch{Go: "amd64"}))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "hello")
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	mappings := func(setting string) int {
		cmd := exec.Command(path)
		cmd.Env = []string{"GODEBUG=" + setting}
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Count(out, []byte(" nh "))
	}
	if own, with := mappings(""), mappings("disablethp=0"); own <= with {
		t.Errorf("%d mappings without huge pages, and %d when they are allowed", own, with)
	}
}

const smaps = "package main\n\nimport \"os\"\n\nfunc main() { b, _ := os.ReadFile(\"/proc/self/smaps\"); os.Stdout.Write(b) }\n"

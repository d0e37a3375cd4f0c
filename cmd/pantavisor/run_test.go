package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/build/gobinary"
	"github.com/pantavisor/pantavisor/build/gosource"
	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/targets"
)

// machines are all CPUs that a device may have; GOARM=6 lies between the two others of ARM.
var machines = []targets.Arch{
	{Go: "amd64"}, {Go: "arm64"}, {Go: "arm", ARM: "5"}, {Go: "arm", ARM: "7"},
	{Go: "mips", MIPS: "softfloat"}, {Go: "mipsle", MIPS: "softfloat"}, {Go: "riscv64"},
}

// budget in bytes for amd64: the binary as it lies in RAM, and as xz in the initrd.
const (
	rawBudget = 7_562_000 // a quarter of it verifies signatures
	xzBudget  = 2_146_000
)

// binary builds as a target's build does.
func binary(t *testing.T, arch targets.Arch) string {
	t.Helper()
	module, err := gosource.Open("../..")
	if err != nil {
		t.Fatal(err)
	}
	step, out := gobinary.ForDevice(module, "cmd/pantavisor", arch), t.TempDir()
	if err := step.Run(t.Context(), build.NewWork(out, t.TempDir(), nil, nil)); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(out, step.File())
}

func TestBuildsForEveryMachine(t *testing.T) {
	if testing.Short() {
		t.Skip("builds eight times")
	}
	for _, m := range machines {
		t.Run(m.String(), func(t *testing.T) {
			info, err := os.Stat(binary(t, m))
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d bytes", info.Size())
		})
	}
}

func TestSize(t *testing.T) {
	path := binary(t, targets.Arch{Go: "amd64"})
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > rawBudget {
		t.Errorf("the binary has %d bytes, the budget is %d", info.Size(), rawBudget)
	}
	packed, err := exec.Command(oracle.Program(t, "xz"), "--x86", "--lzma2=preset=9", "--check=crc32", "-T1", "-c", path).Output()
	if err != nil {
		t.Fatalf("xz: %v", err)
	}
	t.Logf("%d bytes, %d as xz", info.Size(), len(packed))
	if len(packed) > xzBudget {
		t.Errorf("the binary has %d bytes as xz, the budget is %d", len(packed), xzBudget)
	}
}

// forbidden imports, with the reason.
var forbidden = map[string]string{
	"net/http":      "4 MB of code and crypto/tls with it; the control socket speaks HTTP/1.1 by itself",
	"crypto/tls":    "1.5 MB; what talks to the cloud is a second program",
	"log/slog":      "package logs is the device's logger",
	"text/template": "keeps the linker from dropping unused methods",
	"html/template": "as text/template",
	"testing":       "belongs into tests",
	"plugin":        "the binary is static",
	"regexp":        "100 KB, with tables of Unicode, for what a few lines do",
	"github.com/pantavisor/pantavisor/runtime/pvtx": "belongs to the container sdk, as cmd/pv-sdk",
	"github.com/spf13/cobra":                        "half a megabyte for words that a table finds",
	"github.com/containerd/cgroups/v3":              "9 MB; the files are written directly",
	"github.com/klauspost/compress/zstd":            "79 KB as xz; formats/zstddec has 12",
	"github.com/pantavisor/pantavisor/build":        "belongs to the host",
	"github.com/pantavisor/pantavisor/kernel":       "belongs to the host",
	"github.com/pantavisor/pantavisor/images":       "belongs to the host",
}

func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, dep := range strings.Fields(string(out)) {
		if why, bad := forbidden[dep]; bad {
			t.Errorf("the device binary imports %s: %s", dep, why)
		}
	}
}

func TestDispatch(t *testing.T) {
	tests := []struct {
		name        string
		args        []string
		code        int
		out, errout string
	}{
		{"nothing", []string{"pantavisor"}, 2, "", "usage: pantavisor COMMAND"},
		{"no name at all", nil, 2, "", "usage: pantavisor COMMAND"},
		{"help", []string{"pantavisor", "--help"}, 0, "process 1 of a device", ""},
		{"version", []string{"/usr/bin/pantavisor", "--version"}, 0, "pantavisor ", ""},
		{"pvcontrol by name", []string{"/usr/bin/pvcontrol", "--help"}, 0, "pvcontrol", ""},
		{"unknown", []string{"pantavisor", "dance"}, 2, "", `unknown command "dance"`},
		{"App Engine", []string{"pantavisor", "-i", "--help"}, 0, "sudo /opt/pantavisor/pantavisor -i", ""},
		{"App Engine with words", []string{"pantavisor", "-i", "--dance"}, 2, "", "--dance"},
		{"init by word", []string{"pantavisor", "init"}, 1, "", "this is for process 1"},
		{"init by name with help", []string{"/init", "--help"}, 0, "usage", ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			var out, errout bytes.Buffer
			code := Run(t.Context(), tc.args, strings.NewReader(""), &out, &errout)
			if code != tc.code || !strings.Contains(out.String(), tc.out) || !strings.Contains(errout.String(), tc.errout) {
				t.Errorf("code %d, out %q, err %q", code, &out, &errout)
			}
		})
	}
}

func TestCommandsAreNamedOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range commands {
		if seen[c.name] || c.run == nil || c.name != strings.ToLower(c.name) {
			t.Errorf("command %q", c.name)
		}
		seen[c.name] = true
	}
}

func TestVersionIsTheBuilds(t *testing.T) {
	defer func(old string) { release = old }(release)
	release = "1.2.3"
	var out bytes.Buffer
	if code := Run(t.Context(), []string{"pantavisor", "version"}, nil, &out, io.Discard); code != 0 || out.String() != "pantavisor 1.2.3\n" {
		t.Errorf("%d, %q", code, out.String())
	}
}

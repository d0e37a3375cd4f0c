package arch

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/test/vm"
)

// cpu is an architecture of devices, as Go and QEMU name it.
type cpu struct {
	name, emulator string
	env            []string
}

var cpus = []cpu{
	{"arm64", "qemu-aarch64", []string{"GOARCH=arm64"}},
	{"arm", "qemu-arm", []string{"GOARCH=arm", "GOARM=6"}},
	{"mips", "qemu-mips", []string{"GOARCH=mips", "GOMIPS=softfloat"}},
	{"mipsle", "qemu-mipsel", []string{"GOARCH=mipsle", "GOMIPS=softfloat"}},
	{"riscv64", "qemu-riscv64", []string{"GOARCH=riscv64"}},
}

// pkg is a package as go list describes it.
type pkg struct {
	Dir, ImportPath                    string
	GoFiles, TestGoFiles, XTestGoFiles []string
}

// unknown are the tests that an emulator of single programs cannot run, as the form that
// go test -skip takes, by package and why.
var unknown = map[string]struct{ tests, why string }{
	"revision/app":      {"^(TestBaseMovesWithItsExtensions|TestRecordedImages|TestDefaultIsNoLargerThanBefore)$", "they make device nodes, or compress for a minute"},
	"runtime/seccomp":   {"^TestKernel", "filters of system calls are those of this machine"},
	"runtime/ctrl":      {"^TestLargeObjects$", "it hashes 6 GiB"},
	"runtime/boot":      {"^TestGrubEditenvAgrees$", "it takes a program of this machine's"},
	"runtime/container": {"^TestExportTarget$", "QEMU 7.2 does not know the system call openat2"},
}

// short is the package's directory in the module.
func (p pkg) short() string {
	return strings.TrimPrefix(p.ImportPath, "github.com/pantavisor/pantavisor/")
}

func goTool(t *testing.T, env []string, args ...string) []byte {
	t.Helper()
	root, err := vm.Root()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir, cmd.Env = root, append(append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux"), env...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, &said)
	}
	return out
}

// list returns the packages that have tests.
func list(t *testing.T, c cpu) []pkg {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(goTool(t, c.env, "list", "-json=Dir,ImportPath,GoFiles,TestGoFiles,XTestGoFiles", "./revision/...", "./runtime/...")))
	var out []pkg
	for {
		var p pkg
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(p.TestGoFiles)+len(p.XTestGoFiles) > 0 {
			out = append(out, p)
		}
	}
}

// TestOtherCPUs runs the tests that need no privilege as programs of other CPUs: those of
// packages that have other files there, and with PV_TEST_CPUS=all those of all packages of
// revisions and of the device.
func TestOtherCPUs(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the tests for five CPUs")
	}
	all := os.Getenv("PV_TEST_CPUS") == "all"
	own := list(t, cpu{env: []string{"GOARCH=amd64"}})
	for _, c := range cpus {
		t.Run(c.name, func(t *testing.T) {
			emulator := oracle.Program(t, c.emulator)
			count := 0
			for _, p := range list(t, c) {
				same := slices.ContainsFunc(own, func(o pkg) bool { return o.ImportPath == p.ImportPath && slices.Equal(o.GoFiles, p.GoFiles) })
				if all || !same {
					count++
					t.Run(p.short(), func(t *testing.T) { run(t, c, emulator, p) })
				}
			}
			if count == 0 {
				t.Error("no package has other files for this CPU than for a PC")
			}
		})
	}
}

func run(t *testing.T, c cpu, emulator string, p pkg) {
	program := filepath.Join(t.TempDir(), "test")
	goTool(t, c.env, "test", "-c", "-vet=off", "-o", program, p.ImportPath)
	args := []string{program, "-test.short", "-test.timeout=5m"}
	if u, ok := unknown[p.short()]; ok {
		t.Logf("without %s: %s", u.tests, u.why)
		args = append(args, "-test.skip="+u.tests)
	}
	cmd := exec.CommandContext(t.Context(), emulator, args...)
	cmd.Dir = p.Dir
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = unprivileged()
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// unprivileged makes a process without privileges whose files are root's: emulators do not
// know all system calls that tests of root use.
func unprivileged() *syscall.SysProcAttr {
	const user = 1000
	return &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: user, HostID: 0, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: user, HostID: 0, Size: 1}},
		Credential:  &syscall.Credential{Uid: user, Gid: user, NoSetGroups: true},
	}
}

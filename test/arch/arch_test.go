package arch

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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

// excluded are the tests that an emulator of single programs cannot run.
var excluded = []exclusion{
	{pkg: "revision/app", tests: "TestBaseMovesWithItsExtensions|TestRecordedImages", why: "they make device nodes"},
	{pkg: "revision/app", tests: "TestDefaultIsNoLargerThanBefore", why: "compresses for a minute; formats/squashfs tests the one number that depends on the size of an int"},
	{pkg: "revision/remote", tests: "TestResumeAfterKill|TestTokensOfTwoProcesses", why: itself},
	{pkg: "revision/remote", tests: "TestUnreachable", cpus: mips, why: "QEMU 7.2 gives the number of this machine's ECONNREFUSED for SO_ERROR"},
	{pkg: "revision/repo", tests: "TestTwoAtOnce|TestKilled", why: itself},
	{pkg: "runtime/boot", tests: "TestGrubEditenvAgrees", why: "takes a program of this machine's"},
	{pkg: "runtime/container", tests: "TestExportTarget", why: "QEMU 7.2 does not know the system call openat2"},
	{pkg: "runtime/ctrl", tests: "TestLargeObjects", why: "hashes 6 GiB"},
	{pkg: "runtime/ctrl", tests: "TestLargeState", why: "a state of 150,000 files takes longer than a request may"},
	{pkg: "runtime/modules", tests: "TestOrderAgreesWithModprobe", why: "reads all modules of a kernel for minutes"},
	{pkg: "runtime/peer", tests: "TestIdentifyRefusesAPeerThatEnded|TestAcceptWithoutDescriptors", why: itself},
	{pkg: "runtime/program", tests: "TestNobodyWritesThroughTheProgram|TestCopyWithAnotherModeIsReplaced", why: itself},
	{pkg: "runtime/pventer", tests: "TestUnknownContainer", why: itself},
	{pkg: "runtime/pvtx/cli", tests: "TestKilledDeployment", why: itself},
	{pkg: "runtime/seccomp", tests: "TestKernel.*", why: "filters of system calls are those of this machine"},
	{pkg: "runtime/shell", tests: "TestHoldKillsAfterTheTimeout|TestHoldEndsWithTheShell|TestHoldIsExtended", cpus: mips,
		why: "QEMU 7.2 gives pidfd_open's O_NONBLOCK, which has another number on MIPS, to this machine's kernel as it is"},
}

// mips are the CPUs that have other numbers for errors and flags than this machine.
var mips = []string{"mips", "mipsle"}

// itself is why a test is excluded that starts its own program another time.
const itself = "starts its own program, which this machine's kernel cannot run"

// exclusion names tests of a package that are not run.
type exclusion struct {
	pkg   string
	tests string   // names, separated by '|'
	why   string   // for people
	cpus  []string // nil: all
}

// skipped returns the argument of -test.skip for a package on a CPU, "" for none.
func skipped(t *testing.T, c cpu, p pkg) string {
	var tests []string
	for _, e := range excluded {
		if e.pkg == p.short() && (e.cpus == nil || slices.Contains(e.cpus, c.name)) {
			t.Logf("without %s: %s", e.tests, e.why)
			tests = append(tests, e.tests)
		}
	}
	if tests == nil {
		return ""
	}
	return "^(" + strings.Join(tests, "|") + ")$"
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
	// An emulated program that shares its processor takes many times longer than alone.
	args := []string{program, "-test.short", "-test.timeout=30m"}
	if skip := skipped(t, c, p); skip != "" {
		args = append(args, "-test.skip="+skip)
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

// TestExcludedTestsExist finds exclusions whose tests are gone or have another name.
func TestExcludedTestsExist(t *testing.T) {
	t.Parallel()
	for _, e := range excluded {
		names := slices.Collect(strings.SplitSeq(e.tests, "|"))
		files, err := filepath.Glob(filepath.Join("..", "..", filepath.FromSlash(e.pkg), "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			names = slices.DeleteFunc(names, func(name string) bool {
				return regexp.MustCompile(`(?m)^func ` + name + `\(t `).Match(text)
			})
		}
		if len(names) > 0 {
			t.Errorf("%s has no tests %s", e.pkg, strings.Join(names, ", "))
		}
	}
}

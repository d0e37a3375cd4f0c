// Package checks runs the repository's own checks: the linter, all tests, the benchmarks of
// packages and the fuzz targets. Each function works in the current directory, the root of
// the source tree, and passes on what the programs print.
package checks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/targets"
)

// linter is the module of the linter, relative to the root.
const linter = ".ci/lint/go.mod"

// Lint runs golangci-lint, which comes from a module of its own and has go vet's checks. A
// product that has no such module gets go vet.
func Lint(ctx context.Context) error {
	if _, err := os.Stat(linter); errors.Is(err, os.ErrNotExist) {
		return goTool(ctx, "vet", "./...")
	}
	return goTool(ctx, "tool", "-modfile="+linter, "golangci-lint", "run", "./...")
}

// slow are the packages whose tests take minutes, the longest first.
var slow = []string{
	"./test/vm", "./test/powercut", "./runtime/init", "./test/product", "./bootloader/grub", "./test/appengine", "./test/arch", "./cmd/pvcompose",
	"./runtime/device", "./images",
}

// Test runs the linter and all tests; a finding of the linter does not keep the tests from
// running. junit is a file for a report in JUnit's form, "" for none.
func Test(ctx context.Context, junit string) error {
	lint, args := Lint(ctx), append(testArguments(runtime.NumCPU()), "./...")
	if junit != "" {
		return errors.Join(lint, goTest(ctx, junit, args[1:]...))
	}
	return errors.Join(lint, goTool(ctx, args...))
}

// testArguments are those of go test before the packages, and the slow packages: they begin
// first, so that none of them runs alone at the end. Many tests wait, for a virtual machine or
// a timer, so that there is one package more than processors. What go test finds with vet, Lint
// has found.
func testArguments(processors int) []string {
	args := []string{"test", "-timeout=60m", "-vet=off", "-p=" + strconv.Itoa(processors+1)}
	for _, pkg := range slow {
		if _, err := os.Stat(pkg); err == nil { // a product has other packages
			args = append(args, pkg)
		}
	}
	return args
}

// Attack runs the hostile containers of test/suites/attack on virtual machines too.
func Attack(ctx context.Context) error {
	if err := os.Setenv("PV_TEST_MACHINES", "1"); err != nil {
		return fault.Wrap(fault.Internal, err, "setting what is tested")
	}
	return goTool(ctx, "test", "-count=1", "-v", "-timeout=90m", "-run=^(TestHostileContainers|TestHostileContainersOnDevice)$", "./test/appengine")
}

// Boards boots the named targets, separated by commas, or all.
func Boards(ctx context.Context, names string) error {
	if names != all {
		var err error
		if names, err = emulated(names); err != nil {
			return err
		}
	}
	if err := os.Setenv("PV_TEST_TARGETS", names); err != nil {
		return fault.Wrap(fault.Internal, err, "setting what is tested")
	}
	return goTool(ctx, "test", "-count=1", "-v", "-timeout=120m", "-p=1", "-run=^TestBoards", "./test/vm", "./bootloader/efiab")
}

// all stands for every target that has an emulator.
const all = "all"

// emulated returns the targets with their names, as the tests know them, in place of aliases.
// A target that no test would boot is an error: the tests pass it over.
func emulated(names string) (string, error) {
	var out []string
	var errs []error
	for _, name := range strings.Split(names, ",") {
		t, err := targets.Load(targets.Builtin(), strings.TrimSpace(name))
		if err == nil {
			_, err = t.Machine("")
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, t.Name)
	}
	return strings.Join(out, ","), errors.Join(errs...)
}

// CPUs runs the tests of revisions and of the device as programs of other CPUs.
func CPUs(ctx context.Context) error {
	if err := os.Setenv("PV_TEST_CPUS", all); err != nil {
		return fault.Wrap(fault.Internal, err, "setting what is tested")
	}
	return goTool(ctx, "test", "-count=1", "-v", "-timeout=120m", "./test/arch")
}

// Benchmarks runs the benchmarks of all packages.
func Benchmarks(ctx context.Context) error {
	return goTool(ctx, "test", "-run=^$", "-bench=.", "-count=5", "./...")
}

// Fuzz runs each fuzz target for a span of time, as in go test -fuzztime, and returns the
// errors of all that found something.
func Fuzz(ctx context.Context, span string) error {
	found, err := fuzzTargets(".")
	if err == nil && len(found) == 0 {
		err = fault.New(fault.BadInput, "looking for fuzz targets: there are none")
	}
	if err == nil {
		err = fuzzInMemory()
	}
	if err != nil {
		return err
	}
	var errs []error
	for i, f := range found {
		fmt.Printf("fuzzing %s %s (%d of %d)\n", f.dir, f.name, i+1, len(found))
		// A minute for making one input smaller would be more than the span.
		err := goTool(ctx, "test", "-run=^$", "-fuzz=^"+f.name+"$", "-fuzztime="+span, "-fuzzminimizetime=1s", "./"+f.dir)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		errs = append(errs, fault.Wrap(fault.Internal, err, "fuzzing %s %s", f.dir, f.name))
	}
	return errors.Join(errs...)
}

// fuzzInMemory has the targets write to memory: syncs to disk would take nearly all
// of their time. The compiler's files stay where they are.
func fuzzInMemory() error {
	const memory = "/dev/shm"
	if info, err := os.Stat(memory); err != nil || !info.IsDir() {
		return nil
	}
	err := errors.Join(os.Setenv("GOTMPDIR", os.TempDir()), os.Setenv("TMPDIR", memory))
	return fault.Wrap(fault.Internal, err, "setting the directory for temporary files")
}

type fuzzTarget struct{ dir, name string }

var fuzzForm = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)

// fuzzTargets looks for fuzz targets in the test files below root.
func fuzzTargets(root string) ([]fuzzTarget, error) {
	var found []fuzzTarget
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "out" || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		data, err := os.ReadFile(path)
		for _, m := range fuzzForm.FindAllSubmatch(data, -1) {
			found = append(found, fuzzTarget{filepath.Dir(path), string(m[1])})
		}
		return err
	})
	return found, fault.Wrap(fault.IO, err, "looking for fuzz targets")
}

func goTool(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return fault.Wrap(fault.Internal, cmd.Run(), "running go %s", strings.Join(args, " "))
}

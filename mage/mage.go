// Package mage holds the commands that a user types: each exported function is one, a
// thin skin over a method of internal/workspace. A magefile imports it by mage's own
// import (a line mage:import above the import).
package mage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/magefile/mage/mg"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/workspace"
	"github.com/pantavisor/pantavisor/test/appengine"
	"github.com/pantavisor/pantavisor/test/bench"
)

// Options are written --name or --name=value by habit; mage reads one dash, and its
// own -h in front of the command.
func init() {
	workspace.Inside()
	workspace.CancelOnTerminate()
	os.Args = workspace.TestWords(os.Args)
	if len(os.Args) > 1 && strings.EqualFold(os.Args[1], "appengine:run") && (len(os.Args) == 2 || strings.HasPrefix(os.Args[2], "-")) {
		os.Args = slices.Insert(os.Args, 2, "") // its word may be left out
	}
	if len(os.Args) > 2 && slices.ContainsFunc(os.Args[2:], func(arg string) bool { return arg == "--help" || arg == "-h" }) {
		os.Args = []string{os.Args[0], "-h", os.Args[1]}
	}
	for i, arg := range os.Args {
		if i > 1 && strings.HasPrefix(arg, "--") && len(arg) > 2 {
			os.Args[i] = arg[1:]
		}
	}
}

// end passes the exit code of docs/exit-codes.md on, which mage reads from the
// outermost error only.
func end(err error) error {
	if err == nil {
		return nil
	}
	return mg.Fatal(int(fault.Of(err)), err)
}

// door fills what flags say into the front door and does one command.
func door(json, locked *bool, events *string, do func(*workspace.Workspace) error) error {
	d, err := workspace.New()
	if err != nil {
		return end(err)
	}
	d.JSON, d.Locked = json != nil && *json, locked != nil && *locked
	if events != nil {
		d.Events = *events
	}
	return end(do(d))
}

// Build makes the image, its block map, the BSP export and a report under out/TARGET.
//
//	--locked       fails where a pinned part has left the archive
//	--json         prints the report as JSON
//	--events=FILE  writes what happens as JSON lines, - to standard output
//
//	mage build x64-uefi
//	mage build x64-uefi --locked --events=build.jsonl
//	PVR_MERGE_SRC=device/.pvr PANTAVISOR_DEBUG=yes mage build x64-uefi --json
func Build(ctx context.Context, target string, locked, json *bool, events *string) error {
	return door(json, locked, events, func(d *workspace.Workspace) error {
		_, err := d.Build(ctx, target)
		return err
	})
}

// Run builds a target and boots it in QEMU.
//
// --machine picks one of the target's emulators, else it is the first.
// On a terminal it shows the device's console, elsewhere it waits until every container
// has reached its goal and prints a summary, with --json as JSON.
//
//	mage run x64-uefi
//	mage run x64-uefi --json < /dev/null
//	mage run x64-uefi --machine=q35
func Run(ctx context.Context, target string, machine *string, locked, json *bool, events *string) error {
	name := ""
	if machine != nil {
		name = *machine
	}
	return door(json, locked, events, func(d *workspace.Workspace) error { return d.Run(ctx, target, name) })
}

// Targets lists the boards.
//
//	mage targets
//	mage targets --json
func Targets(json *bool) error {
	return door(json, nil, nil, func(d *workspace.Workspace) error { return d.Targets() })
}

// Plan prints the resolved graph without running it, as text, json or dot.
//
//	mage plan x64-uefi
//	mage plan x64-uefi --format=dot | dot -Tsvg > plan.svg
func Plan(ctx context.Context, target string, format *string, locked *bool) error {
	how := "text"
	if format != nil {
		how = *format
	}
	return door(nil, locked, nil, func(d *workspace.Workspace) error { return d.Plan(ctx, target, how) })
}

// Why says which input of a step changed since it was last made, with old and new digest.
//
//	mage why x64-uefi initrd/base
func Why(ctx context.Context, target, step string, json *bool) error {
	return door(json, nil, nil, func(d *workspace.Workspace) error { return d.Why(ctx, target, step) })
}

// Clean removes what was made for a target; downloads stay.
//
//	mage clean x64-uefi
func Clean(ctx context.Context, target string) error {
	return door(nil, nil, nil, func(d *workspace.Workspace) error { return d.Clean(ctx, target) })
}

// Component makes one component of a target.
//
// There are init, initrd, kernel, bsp, trail and image; with -clean behind its name a
// component is forgotten.
//
//	mage component x64-uefi initrd
//	mage component x64-uefi initrd-clean
func Component(ctx context.Context, target, name string, locked *bool, events *string) error {
	return door(nil, locked, events, func(d *workspace.Workspace) error { return d.Component(ctx, target, name) })
}

// Lock moves the pinned parts of a target to the newest of their suite.
//
//	mage lock x64-uefi
func Lock(ctx context.Context, target string) error {
	return door(nil, nil, nil, func(d *workspace.Workspace) error { return d.Lock(ctx, target) })
}

// Appengine are the App Engine tests under test/suites.
type Appengine mg.Namespace

// Ls lists the App Engine tests with their numbers.
//
//	mage appengine:ls
//	mage appengine:ls --json
func (Appengine) Ls(json *bool) error {
	return door(json, nil, nil, func(d *workspace.Workspace) error { return d.AppEngineTests() })
}

// Run runs App Engine tests: all, a GROUP, or one as GROUP:NUMBER.
//
//	-i  opens a console in place of the test script
//	-m  with -i: before the App Engine is started
//	-o  records the results
//
//	mage appengine:run
//	mage appengine:run local
//	mage appengine:run local:0 -i
//	mage appengine:run local:0 -o
func (Appengine) Run(ctx context.Context, test string, i, m, o, json *bool) error {
	on := func(b *bool) bool { return b != nil && *b }
	return door(json, nil, nil, func(d *workspace.Workspace) error {
		return d.AppEngineRun(ctx, test, appengine.Mode{Interactive: on(i), Manual: on(m), Overwrite: on(o)})
	})
}

// Add makes a new test in a group.
//
//	mage appengine:add local
func (Appengine) Add(group string) error {
	return door(nil, nil, nil, func(d *workspace.Workspace) error { return d.AppEngineAdd(group) })
}

// Test runs everything there is to test: the linter, all tests, the VM boots.
//
//	mage test
func Test(ctx context.Context) error {
	d, err := workspace.New()
	if err != nil {
		return end(err)
	}
	if err := d.PrepareTests(ctx); err != nil {
		return end(err)
	}
	return end(errors.Join(lint(ctx), gotool(ctx, "test", "-timeout=60m", "./...")))
}

// Bench measures what docs/benchmarks.md lists and writes it there.
//
// With --packages it runs the benchmarks of all packages instead.
//
//	mage bench
//	mage bench --packages
func Bench(ctx context.Context, packages *bool) error {
	if packages != nil && *packages {
		return end(gotool(ctx, "test", "-run=^$", "-bench=.", "-count=5", "./..."))
	}
	root, err := os.Getwd()
	if err != nil {
		return end(err)
	}
	return end(bench.Run(ctx, root, os.Stdout, os.Stderr))
}

// Fuzz runs every fuzz target for a while, 60s or what --span says.
//
// It tells at the end of all that found something.
//
//	mage fuzz
//	mage fuzz --span=5m
func Fuzz(ctx context.Context, span *string) error {
	time := "60s"
	if span != nil {
		time = *span
	}
	found, err := fuzzTargets()
	if err == nil && len(found) == 0 {
		err = fault.New(fault.Internal, "looking for fuzz targets: there are none")
	}
	if err == nil {
		err = fuzzInMemory()
	}
	if err != nil {
		return end(err)
	}
	var errs []error
	for i, f := range found {
		fmt.Printf("fuzzing %s %s (%d of %d)\n", f.dir, f.name, i+1, len(found))
		// A minute for making one input smaller would be more than the span.
		err := gotool(ctx, "test", "-run=^$", "-fuzz=^"+f.name+"$", "-fuzztime="+time, "-fuzzminimizetime=1s", "./"+f.dir)
		if ctx.Err() != nil {
			return end(ctx.Err())
		}
		errs = append(errs, fault.Wrap(fault.Internal, err, "fuzzing %s %s", f.dir, f.name))
	}
	return end(errors.Join(errs...))
}

// fuzzInMemory has the targets write to memory: syncs to disk would take nearly all
// of their time. The compiler's files stay where they are.
func fuzzInMemory() error {
	const memory = "/dev/shm"
	if info, err := os.Stat(memory); err != nil || !info.IsDir() {
		return nil
	}
	err := errors.Join(os.Setenv("GOTMPDIR", os.TempDir()), os.Setenv("TMPDIR", memory))
	return fault.Wrap(fault.Internal, err, "setting the folder for temporary files")
}

// Lint checks form and style.
//
//	mage lint
func Lint(ctx context.Context) error { return end(lint(ctx)) }

func lint(ctx context.Context) error {
	if err := gotool(ctx, "vet", "./..."); err != nil {
		return err
	}
	// The linter comes from a module of its own, pinned like everything else.
	return gotool(ctx, "tool", "-modfile=.ci/lint/go.mod", "golangci-lint", "run", "./...")
}

func gotool(ctx context.Context, args ...string) error { return call(ctx, "go", args...) }

func call(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return fault.Wrap(fault.Internal, cmd.Run(), "running %s %s", name, strings.Join(args, " "))
}

type fuzzTarget struct{ dir, name string }

var fuzzForm = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)

// fuzzTargets looks for them in the test files.
func fuzzTargets() ([]fuzzTarget, error) {
	var found []fuzzTarget
	err := filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || path == "out") {
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

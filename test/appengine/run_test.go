package appengine

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/emulator"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/layers"
	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/internal/workspace"
	"github.com/pantavisor/pantavisor/test/vm"
)

func TestMain(m *testing.M) {
	Inside()
	os.Exit(m.Run())
}

var maker = sync.OnceValues(func() (*workspace.Maker, error) {
	target, err := HostTarget(runtime.GOARCH)
	if err != nil {
		return nil, err
	}
	root, err := vm.Root()
	if err != nil {
		return nil, err
	}
	return workspace.OpenMaker(context.Background(), root, target, nil)
})

func runner(t *testing.T) (*Runner, *bytes.Buffer) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("namespaces, mounts and control groups need root")
	}
	w, err := maker()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	return &Runner{Builder: w, Stdout: &out, Stderr: &out}, &out
}

// TestSuites runs all tests of the source tree.
func TestSuites(t *testing.T) {
	r, _ := runner(t)
	all, err := findTests(layers.New(layers.Layer{Label: layers.Workspace, Dir: r.Builder.(*workspace.Maker).Root}))
	if err != nil {
		t.Fatal(err)
	}
	for _, group := range []string{"local", "containers", "logs", "configuration", "attack"} {
		if !slices.ContainsFunc(all, func(t *Test) bool { return t.Group == group }) {
			t.Errorf("there is no group %s", group)
		}
	}
	for _, one := range all {
		t.Run(one.ID()+" "+one.Name, func(t *testing.T) {
			results, err := r.Run(t.Context(), []*Test{one}, false)
			if err != nil {
				t.Fatal(err)
			}
			switch results[0].Verdict {
			case Passed:
			case Skipped:
				t.Skip("its test.json says so: it needs what only the machines of mage attack have")
			default:
				t.Errorf("%s: %s", results[0].Verdict, results[0].Why)
			}
		})
	}
}

// own is one test with a script, without containers.
func own(t *testing.T, script string, change func(*Spec)) *Test {
	t.Helper()
	all, err := findTests(layers.New(suites(t, layers.Workspace, "own/00-own")))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(all[0].Dir, "resources/test"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(all[0].Spec)
	}
	return all[0]
}

func TestRunnerSeesFailures(t *testing.T) {
	r, out := runner(t)
	nothingLeft := ownTraces(t, r)
	record := func(text string) func(*Test) error { return func(t *Test) error { return t.record(text) } }
	for name, c := range map[string]struct {
		script string
		change func(*Spec)
		before func(*Test) error
		want   string
	}{
		"other result": {"echo now", nil, record("then\n"), "- then\n    + now"},
		"exit code":    {"exit 7", nil, record(""), "+ exit code 7"},
		"no result":    {"echo now", nil, nil, "no result is recorded"},
		"left behind":  {"mkdir /sys/fs/cgroup/mine; mkdir -p $PVTEST_TMP/m; mount -t tmpfs none $PVTEST_TMP/m", nil, record(""), "left behind: control group /sys/fs/cgroup/mine/cgroup.procs, mount "},
		"ready script": {"", func(s *Spec) { s.Setup.ReadyScript = "resources/test" }, func(t *Test) error {
			return os.WriteFile(filepath.Join(t.Dir, "resources/test"), []byte("exit 1"), 0o755)
		}, "running the ready script"},
		"no control":       {"", func(s *Spec) { s.Setup.Containers.Control = "sdk" }, nil, "sdk is in none of tarballs and urls"},
		"not to be had":    {"", func(s *Spec) { s.Setup.Containers.URLs = []string{"http://127.0.0.1:1/x"} }, nil, "clone it (pvr clone)"},
		"cannot start":     {"", func(s *Spec) { s.Setup.Cmdline = "pv_system.init.mode=embedded" }, nil, "the App Engine has ended"},
		"killed by a test": {"kill -9 $(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/' $PVTEST_PREFIX/run/pv.json)", nil, record(""), "stopping the App Engine"},
	} {
		t.Run(name, func(t *testing.T) {
			test := own(t, c.script, c.change)
			if c.before != nil {
				if err := c.before(test); err != nil {
					t.Fatal(err)
				}
			}
			out.Reset()
			results, err := r.Run(t.Context(), []*Test{test}, true)
			if err != nil {
				t.Fatal(err)
			}
			if results[0].Verdict != Failed || !strings.Contains(out.String(), c.want) {
				t.Errorf("%s, want %s:\n%s", results[0].Verdict, c.want, out)
			}
			if _, err := summary(results); fault.Of(err) != fault.Goal {
				t.Errorf("the sum: %v", err)
			}
		})
	}
	nothingLeft()
}

// ownTraces makes a runner's tests leave their traces under a name that no other
// run on this machine has. The result looks for them.
func ownTraces(t *testing.T, r *Runner) (nothingLeft func()) {
	t.Helper()
	r.label = strconv.Itoa(os.Getpid()) + "-"
	name := workPrefix + r.label
	return func() {
		t.Helper()
		for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*", os.TempDir()} {
			if found, _ := filepath.Glob(filepath.Join(dir, name+"*")); len(found) > 0 {
				t.Errorf("left: %v", found)
			}
		}
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil || strings.Contains(string(mounts), name) {
			t.Errorf("mounts are left (%v):\n%s", err, mounts)
		}
	}
}

func TestSkipAndRecord(t *testing.T) {
	r, out := runner(t)
	test := own(t, "echo first; echo $PVTEST_IN-; ls $PVTEST_TMP", func(s *Spec) { s.Skip = "true" })
	run := func(mode Mode, single bool, want string) {
		t.Helper()
		r.Mode = mode
		results, err := r.Run(t.Context(), []*Test{test}, single)
		if err != nil || results[0].Verdict != want {
			t.Errorf("%+v, %v; want %s\n%s", results, err, want, out)
		}
	}
	run(Mode{}, false, Skipped)
	run(Mode{Overwrite: true}, true, Recorded)
	run(Mode{}, true, Passed)
	if got, err := os.ReadFile(filepath.Join(test.Dir, resultFile)); err != nil || string(got) != "first\n-\n" {
		t.Errorf("recorded %q, %v", got, err)
	}
	r.Mode = Mode{Interactive: true}
	if _, err := r.Run(t.Context(), []*Test{test, test}, false); fault.Of(err) != fault.BadInput {
		t.Errorf("two consoles: %v", err)
	}
}

// TestConsoleLeavesSignalsToPrograms wants Ctrl-C to end what runs in the console:
// a signal that its shell begins with as ignored is ignored by all that it starts.
func TestConsoleLeavesSignalsToPrograms(t *testing.T) {
	dir := t.TempDir()
	shell := filepath.Join(dir, "shell")
	if err := os.WriteFile(shell, []byte("#!/bin/sh\ngrep SigIgn: /proc/self/status > "+dir+"/ignored\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SHELL", shell)
	if err := (&job{Dir: dir}).console(t.Context()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "ignored"))
	if err != nil {
		t.Fatal(err)
	}
	mask, err := strconv.ParseUint(strings.Fields(string(text))[1], 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTTIN, syscall.SIGTTOU} {
		if mask&(1<<(s-1)) != 0 {
			t.Errorf("%v is ignored", s)
		}
	}
}

func TestInterruptedRunLeavesNothing(t *testing.T) {
	r, _ := runner(t)
	nothingLeft := ownTraces(t, r)
	begun := filepath.Join(t.TempDir(), "begun")
	test := own(t, "touch "+begun+"; sleep 3600", nil)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for !exists(begun) && ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
	}()
	if _, err := r.Run(ctx, []*Test{test}, true); fault.Of(err) != fault.Cancelled {
		t.Errorf("%v", err)
	}
	nothingLeft()
}

// TestDeviceAndAppEngineSayTheSame boots one state in a virtual machine and in an
// App Engine.
func TestDeviceAndAppEngineSayTheSame(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine")
	}
	r, out := runner(t)
	root := r.Builder.(*workspace.Maker).Root
	device, err := workspace.OpenMaker(t.Context(), root, "x64-uefi", nil)
	if err != nil {
		t.Fatal(err)
	}
	oracle.Emulator(t, emulator.Missing(device.Target.Emulators[0]))
	reference := reference(t, device, filepath.Join(root, "containers/sdk"), filepath.Join(root, Suites, "common/containers/app"))
	asked := []string{"/containers", "/groups", "/steps"}
	want := onDevice(t, device, reference, asked)

	test := own(t, "for p in "+strings.Join(asked, " ")+"; do pvcurl --unix-socket $PVTEST_PREFIX/run/pv/pv-ctrl -s http://localhost$p; echo; done", func(s *Spec) {
		s.Setup.Containers.Tarballs = []string{reference}
	})
	r.Mode = Mode{Overwrite: true}
	if results, err := r.Run(t.Context(), []*Test{test}, true); err != nil || results[0].Verdict != Recorded {
		t.Fatalf("%+v, %v\n%s", results, err, out)
	}
	text, err := os.ReadFile(filepath.Join(test.Dir, resultFile))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) != len(asked) {
		t.Fatalf("%d answers, want %d:\n%s", len(lines), len(asked), text)
	}
	for i, path := range asked {
		var got any
		if err := json.Unmarshal([]byte(lines[i]), &got); err != nil {
			t.Fatalf("%s: %v: %s", path, err, lines[i])
		}
		if diff := cmp.Diff(want[path], byKind(got)); diff != "" {
			t.Errorf("%s (-device +App Engine):\n%s", path, diff)
		}
	}
}

// reference makes a .pvr directory of containers that lie in different places.
func reference(t *testing.T, w *workspace.Maker, dirs ...string) string {
	t.Helper()
	all := t.TempDir()
	var names []string
	for _, dir := range dirs {
		names = append(names, filepath.Base(dir))
		if err := os.Symlink(dir, filepath.Join(all, filepath.Base(dir))); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(names)
	out := filepath.Join(t.TempDir(), ".pvr")
	if err := w.Reference(t.Context(), all, names, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func onDevice(t *testing.T, w *workspace.Maker, reference string, asked []string) map[string]any {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	image, err := w.Image(ctx, reference)
	if err != nil {
		t.Fatal(err)
	}
	d, err := vm.Boot(ctx, w.Target.Emulators[0], image, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if cs, err := d.WaitContainers(ctx, emulator.AllReached(2)); err != nil {
		t.Fatalf("%v; last answer %+v\n%s", err, cs, strings.Join(d.Console.Tail(40), "\n"))
	}
	out := map[string]any{}
	for _, path := range asked {
		var v any
		if err := d.API.Get(ctx, path, &v); err != nil {
			t.Fatal(err)
		}
		out[path] = byKind(v)
	}
	return out
}

// byKind replaces what differs between two runs of one state by what it is.
func byKind(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = byKind(v[i])
		}
	case map[string]any:
		for k, member := range v {
			switch k {
			case "date":
				if _, err := time.Parse(time.RFC3339, member.(string)); err == nil {
					member = "a time"
				}
			case "pid":
				if _, ok := member.(float64); ok {
					member = "a number"
				}
			}
			v[k] = byKind(member)
		}
	}
	return v
}

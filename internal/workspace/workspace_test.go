package workspace

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/build/options"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// empty returns a workspace without files and with a cache of its own.
func empty(t *testing.T) (*Workspace, *bytes.Buffer) {
	t.Helper()
	t.Setenv("PV_CACHE_DIR", t.TempDir())
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "go.mod"), []byte("module example.test/m\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	return &Workspace{Root: root, Options: &options.Options{}, Stdout: &out, Stderr: &bytes.Buffer{}}, &out
}

func TestTargets(t *testing.T) {
	w, out := empty(t)
	directory := filepath.Join(w.Root, "targets", "mine")
	if err := os.MkdirAll(directory, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(directory, "target.yaml"), []byte("description: my board\narch: {go: riscv64}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := w.Targets(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"mine", "riscv64", "my board", "x64-uefi"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	out.Reset()
	w.JSON = true
	var list map[string]map[string]any
	if err := w.Targets(); err != nil || json.Unmarshal(out.Bytes(), &list) != nil || list["mine"]["description"] != "my board" {
		t.Errorf("%v: %s", err, out)
	}
}

// TestResultsWithoutAPlace: sources that nothing can be written to are told before the work.
func TestResultsWithoutAPlace(t *testing.T) {
	w, _ := empty(t)
	file := filepath.Join(w.Root, "targets/mine/target.yaml")
	err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte("description: my board\nbase: x64-uefi\n"), 0o644),
		os.WriteFile(filepath.Join(w.Root, "out"), nil, 0o644)) // for root no directory is read only
	if err != nil {
		t.Fatal(err)
	}
	j, err := w.start("mine")
	if err != nil {
		t.Fatal(err)
	}
	report, err := w.deliver(t.Context(), j)
	if fault.Of(err) != fault.IO || !strings.Contains(err.Error(), "another place: --out=DIR") {
		t.Errorf("%v", err)
	}
	if len(report.Steps) != 0 || j.comp != nil {
		t.Errorf("%d steps are in the report of a build without a place for its results", len(report.Steps))
	}
	if err := j.close(); err != nil {
		t.Error(err)
	}
}

func TestUnknownNames(t *testing.T) {
	w, _ := empty(t)
	ctx := t.Context()
	for name, do := range map[string]func() error{
		"build":     func() error { _, err := w.Build(ctx, "x64-uef"); return err },
		"run":       func() error { return w.Run(ctx, "x64-uef", RunOptions{}) },
		"export":    func() error { return w.Export(ctx, "x64-uef", []string{"sdk"}) },
		"device":    func() error { return w.Device(ctx, "x64-uef", filepath.Join(w.Root, "device")) },
		"plan":      func() error { return w.Plan(ctx, "x64-uef", "text") },
		"why":       func() error { return w.Why(ctx, "x64-uef", "initrd") },
		"clean":     func() error { return w.Clean(ctx, "x64-uef") },
		"lock":      func() error { return w.Lock(ctx, "x64-uef") },
		"component": func() error { return w.Component(ctx, "x64-uef", "initrd") },
	} {
		err := do()
		if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "did you mean x64-uefi?") {
			t.Errorf("%s: got %v of kind %v", name, err, fault.Of(err))
		}
	}
	if err := w.Component(ctx, "x64-uefi", "initr-clean"); err == nil || !strings.Contains(err.Error(), "did you mean init or initrd?") {
		t.Errorf("got %v", err)
	}
	if err := w.Run(ctx, "x64-generic", RunOptions{}); fault.Of(err) != fault.Unsupported {
		t.Errorf("a target without emulator: got %v", err)
	}
	if err := w.Run(ctx, "x64-uefi-installer", RunOptions{}); fault.Of(err) != fault.Unsupported || !strings.Contains(err.Error(), "mage run x64-uefi,") {
		t.Errorf("an installation medium: got %v", err)
	}
	if err := w.Run(ctx, "x64-uefi", RunOptions{Logs: filepath.Join(os.DevNull, "logs")}); fault.Of(err) != fault.IO || !strings.Contains(err.Error(), "--logs") {
		t.Errorf("logs without a place: got %v", err)
	}
}

func TestEvents(t *testing.T) {
	w, out := empty(t)
	for _, to := range []string{"-", filepath.Join(t.TempDir(), "events")} {
		w.Events = to
		sink, end, err := w.sinks()
		if err != nil {
			t.Fatal(err)
		}
		sink.Event(build.Event{Type: build.Done, Step: "s"})
		if err := end(); err != nil {
			t.Fatal(err)
		}
		data := out.Bytes()
		if to != "-" {
			if data, err = os.ReadFile(to); err != nil {
				t.Fatal(err)
			}
		}
		var e build.Event
		if err := json.Unmarshal(data, &e); err != nil || e.Step != "s" {
			t.Errorf("%s: %s, %v", to, data, err)
		}
	}
	w.Events = filepath.Join(t.TempDir(), "gone", "events")
	if _, _, err := w.sinks(); fault.Of(err) != fault.IO {
		t.Errorf("got %v", err)
	}
	if _, err := w.Build(t.Context(), "x64-uefi"); fault.Of(err) != fault.IO || strings.Count(err.Error(), "opening the file of --events") != 1 {
		t.Errorf("a build: got %v; want it told once", err)
	}
	w.Events = filepath.Join(w.Events, "x")
	if _, err := w.Build(t.Context(), "x64-uef"); err == nil || !strings.Contains(err.Error(), "did you mean x64-uefi?") || !strings.Contains(err.Error(), "--events") {
		t.Errorf("a build of an unknown target: got %v; want both mistakes", err)
	}
}

func TestCleanRemovesWhatWasMade(t *testing.T) {
	w, _ := empty(t)
	file := filepath.Join(w.Out("x64-uefi"), "x.img")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := w.Clean(context.Background(), "x64-uefi"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(w.Out("x64-uefi")); !os.IsNotExist(err) {
		t.Errorf("out/ is still there: %v", err)
	}
}

func TestCleanOfADeletedTarget(t *testing.T) {
	w, _ := empty(t)
	for name, report := range map[string]string{"gone": build.ReportName, "mine": "notes.txt"} {
		if err := os.MkdirAll(w.Out(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(w.Out(name), report), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Clean(t.Context(), "gone"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(w.Out("gone")); !os.IsNotExist(err) {
		t.Errorf("out/gone is still there: %v", err)
	}
	for _, dir := range []string{w.Root, filepath.Dir(w.Out("x"))} { // no word leads to these
		if err := os.WriteFile(filepath.Join(dir, build.ReportName), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"mine", "../out/mine", "..", ".", "", "/"} {
		if err := w.Clean(t.Context(), name); fault.Of(err) != fault.BadInput {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := os.Stat(w.Out("mine")); err != nil {
		t.Errorf("a directory that no build made is gone: %v", err)
	}
}

func TestBrokenLockIsTold(t *testing.T) {
	w, _ := empty(t)
	file := w.lockFile("x64-uefi")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("{broken"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := w.Plan(t.Context(), "x64-uefi", "text"); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "parts.lock") {
		t.Errorf("got %v of kind %v", err, fault.Of(err))
	}
}

// TestFilesThatAreNoTexts: of the files that people write, each may be a pipe, a device, a
// directory or far too large. None is waited for or read whole, and the error names it.
func TestFilesThatAreNoTexts(t *testing.T) {
	forms := map[string]func(string) error{
		"pipe":      func(file string) error { return syscall.Mkfifo(file, 0o600) },
		"device":    func(file string) error { return os.Symlink("/dev/zero", file) },
		"directory": func(file string) error { return os.Mkdir(file, 0o755) },
		"large": func(file string) error {
			return errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, 1<<40))
		},
	}
	w, _ := empty(t)
	for form, make := range forms {
		for _, name := range []string{
			"targets/x64-uefi/target.yaml", "targets/x64-uefi/parts.lock", "config/x64-uefi/pantavisor.config",
			"config/x64-uefi/image.config", "containers/network/container.yaml",
		} {
			file := filepath.Join(w.Root, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), make(file)); err != nil {
				t.Fatal(err)
			}
			err := w.Plan(t.Context(), "x64-uefi", "text")
			if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), filepath.Base(name)) {
				t.Errorf("%s as a %s: kind %v: %v", name, form, fault.Of(err), err)
			}
			if err := os.RemoveAll(filepath.Join(w.Root, filepath.Dir(filepath.Dir(name)))); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestFullFileSystemSaysWhereRoomIsNeeded(t *testing.T) {
	w, _ := empty(t)
	cause := &os.PathError{Op: "write", Path: "/x", Err: syscall.ENOSPC}
	err := w.roomFor(fault.Wrap(fault.IO, cause, "unpacking"), "/cache")
	if fault.Of(err) != fault.NoSpace || !strings.Contains(err.Error(), "/cache") || !strings.Contains(err.Error(), "PV_CACHE_DIR") {
		t.Errorf("%v: %v", fault.Of(err), err)
	}
	small := fault.New(fault.NoSpace, "the image is too small")
	if got := w.roomFor(small, "/cache"); !errors.Is(got, small) || got.Error() != small.Error() {
		t.Errorf("an image that is too small: %v", got)
	}
}

// TestAliasesNameTheTarget: what an alias makes, and what it removes, is that of the target.
func TestAliasesNameTheTarget(t *testing.T) {
	w, _ := empty(t)
	out := w.Out("rpi64-5.10.y")
	if err := os.MkdirAll(out, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := w.Clean(t.Context(), "rpi64"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(out); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", out, err)
	}
}

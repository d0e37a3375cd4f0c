package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/build/options"
	"github.com/pantavisor/pantavisor/internal/workspace"
	"github.com/pantavisor/pantavisor/targets"
)

const target = "x64-uefi"

// usage is what one run took.
type usage struct {
	cpu, wall float64 // seconds, children included
	peak      float64 // MiB, of this process
}

// measure runs do and takes its CPU time, wall time and peak memory.
func measure(do func() error) (usage, error) {
	resetPeak("/proc/self/")
	before, start := cpuTime(), time.Now()
	err := do()
	return usage{cpu: cpuTime() - before, wall: time.Since(start).Seconds(), peak: peakMiB()}, err
}

func cpuTime() float64 {
	total := 0.0
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if unix.Getrusage(who, &u) == nil {
			total += float64(unix.TimevalToNsec(u.Utime)+unix.TimevalToNsec(u.Stime)) / 1e9
		}
	}
	return total
}

// resetPeak makes the kernel count VmHWM from now (proc(5), clear_refs).
func resetPeak(proc string) { _ = os.WriteFile(proc+"clear_refs", []byte("5"), 0) }

func peakMiB() float64 { return highWater("/proc/self/status") }

// highWater reads VmHWM of a process in MiB; 0 when it is gone.
func highWater(path string) float64 {
	status, _ := os.ReadFile(path)
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib / 1024
		}
	}
	return 0
}

// silent returns the workspace at root without output.
func silent(root string) *workspace.Workspace {
	w := workspace.At(root, &options.Options{})
	w.Stdout, w.Stderr = io.Discard, io.Discard
	return w
}

func repeat(n int, do func(i int) error) (cpu, wall, peak []float64, err error) {
	for i := range n {
		u, err := measure(func() error { return do(i) })
		if err != nil {
			return nil, nil, nil, err
		}
		cpu, wall, peak = append(cpu, u.cpu), append(wall, u.wall), append(peak, u.peak)
	}
	return cpu, wall, peak, nil
}

func noChange(ctx context.Context, root string) ([]Row, error) {
	again := func(int) error { _, err := silent(root).Build(ctx, target); return err }
	if err := again(0); err != nil { // makes what is missing
		return nil, err
	}
	cpu, wall, _, err := repeat(runs, again)
	if err != nil {
		return nil, err
	}
	return []Row{
		row("no-change rebuild", "CPU s", 0.05, cpu, "the build itself: resolve, keys, look-ups, report"),
		row("no-change rebuild", "s wall", 0, wall, ""),
	}, nil
}

// bills measures what the bills of materials add to a build: one that has all but them, less one that
// has everything.
func bills(ctx context.Context, root string) ([]Row, error) {
	whole := func(int) error { _, err := silent(root).Build(ctx, target); return err }
	if err := whole(0); err != nil {
		return nil, err
	}
	var added []float64
	for range runs {
		without, err := measure(func() error { return whole(0) })
		if err == nil {
			err = silent(root).Component(ctx, target, "sbom-clean")
		}
		var with usage
		if err == nil {
			with, err = measure(func() error { return whole(0) })
		}
		if err != nil {
			return nil, err
		}
		added = append(added, with.cpu-without.cpu)
	}
	return []Row{row("bills of materials of x64-uefi", "CPU s", 0.3, added, "what they add to a build; the digest of the image is not part of it, since a build without them has it too")}, nil
}

// verified measures what mage verify takes besides the rebuild itself, which is one without a cache.
func verified(ctx context.Context, root string) ([]Row, error) {
	if _, err := silent(root).Build(ctx, target); err != nil {
		return nil, err
	}
	var over, rebuilt []float64
	for range runs {
		var said bytes.Buffer
		w := silent(root)
		w.JSON, w.Stdout = true, &said
		whole, err := measure(func() error { return w.Verify(ctx, target, workspace.VerifyOptions{}) })
		if err != nil {
			return nil, err
		}
		var v workspace.Verified
		if err := json.Unmarshal(said.Bytes(), &v); err != nil {
			return nil, err
		}
		over, rebuilt = append(over, 100*(whole.cpu-v.CPU)/v.CPU), append(rebuilt, v.CPU)
	}
	return []Row{
		row("`mage verify` of x64-uefi over the rebuild", "%", 5, over, "CPU of the process that starts, and of the comparison"),
		row("the rebuild of `mage verify`, x64-uefi", "CPU s", 0, rebuilt, "without a cache but for compiled Go code"),
	}, nil
}

// wholeCommand measures the command as it is typed: go, which finds the tool, mage,
// which checks that its program is current, and the build.
func wholeCommand(ctx context.Context, root string) ([]Row, error) {
	build := func(int) error {
		cmd := exec.CommandContext(ctx, "go", "tool", "mage", "build", target)
		cmd.Dir = root
		return cmd.Run()
	}
	if err := build(0); err != nil { // compiles what is missing
		return nil, err
	}
	cpu, wall, _, err := repeat(runs, build)
	if err != nil {
		return nil, err
	}
	return []Row{
		row("no-change `go tool mage build`", "CPU s", 0.15, cpu, "the whole process: go finds mage, mage checks that its program is current, the build"),
		row("no-change `go tool mage build`", "s wall", 0.5, wall, ""),
	}, nil
}

// plans plans every target, as mage plan does, in one process.
func plans(ctx context.Context, root string) ([]Row, error) {
	names, err := targets.Names(targets.Builtin())
	if err != nil {
		return nil, err
	}
	all := func(int) error {
		w := silent(root)
		for _, name := range names {
			if err := w.Plan(ctx, name, "json"); err != nil {
				return err
			}
		}
		return nil
	}
	if err := all(0); err != nil { // reads the package lists that it needs
		return nil, err
	}
	cpu, _, peak, err := repeat(runs, all)
	if err != nil {
		return nil, err
	}
	return []Row{
		row("plans of all targets", "CPU s", 1, cpu, fmt.Sprintf("%d targets and builds", len(names))),
		row("plans of all targets, peak memory", "MiB", 64, peak, ""),
	}, nil
}

// changedRuntime builds the image of a PC with a changed runtime, and that of a Raspberry Pi.
func changedRuntime(ctx context.Context, root string) ([]Row, error) {
	rows, err := changed(ctx, root, target, 5)
	if err != nil {
		return nil, err
	}
	pi, err := changed(ctx, root, "rpi64", 6)
	return append(rows, pi[:min(1, len(pi))]...), err
}

// changed builds in a copy of the tree whose runtime is changed each time.
func changed(ctx context.Context, root, target string, aim float64) ([]Row, error) {
	copied, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(copied)
	if err := copyTree(ctx, root, copied); err != nil {
		return nil, err
	}
	build := func(i int) error {
		if err := changeRuntime(copied, i); err != nil {
			return err
		}
		_, err := silent(copied).Build(ctx, target)
		return err
	}
	if err := build(0); err != nil {
		return nil, err
	}
	cpu, wall, peak, err := repeat(runs, func(i int) error { return build(i + 1) })
	if err != nil {
		return nil, err
	}
	return []Row{
		row(target+": image after a change of the runtime", "CPU s", aim, cpu, "compile, compress, compose, publish; warm cache"),
		row(target+": image after a change of the runtime", "s wall", 0, wall, ""),
		row("peak memory of the composer", "MiB", 128, peak, "the composing process, with compression"),
	}, nil
}

// changeRuntime adds code that no optimiser can leave out.
func changeRuntime(root string, i int) error {
	code := fmt.Sprintf("package engine\n\nimport \"os\"\n\nfunc init() {\n\tif len(os.Args) == %d {\n\t\tprintln(%d)\n\t}\n}\n", 100_000+i, time.Now().UnixNano())
	return os.WriteFile(filepath.Join(root, "runtime", "engine", "measured.go"), []byte(code), 0o644)
}

// copyTree copies what belongs to the source tree.
func copyTree(ctx context.Context, from, to string) error {
	cmd := exec.CommandContext(ctx, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = from
	list, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("listing the source tree: %w", err)
	}
	for _, name := range bytes.Split(bytes.TrimSuffix(list, []byte{0}), []byte{0}) {
		dst := filepath.Join(to, string(name))
		if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
			return err
		}
		src := filepath.Join(from, string(name))
		if link, err := os.Readlink(src); err == nil {
			if err := os.Symlink(link, dst); err != nil {
				return err
			}
			continue
		}
		if err := build.CopyFile(ctx, dst, src); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}

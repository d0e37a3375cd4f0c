package bench

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/emulator"
	"github.com/pantavisor/pantavisor/internal/workspace"
	"github.com/pantavisor/pantavisor/test/vm"
)

const mib = 1 << 20

// sizes are the same in every run: one is enough.
func sizes(ctx context.Context, root string) ([]Row, error) {
	report, err := silent(root).Build(ctx, target)
	if err != nil {
		return nil, err
	}
	base, err := stepSize(report, "initrd/base")
	if err != nil {
		return nil, err
	}
	runtime, err := stepSize(report, "initrd/runtime")
	if err != nil {
		return nil, err
	}
	return []Row{
		row("base initrd, xz", "MiB", 4.5, []float64{base}, "with Debian's early modules"),
		row("device binary in it", "MiB", 2.5, []float64{runtime}, "its own block of the xz stream"),
	}, nil
}

func stepSize(r *build.Report, name string) (float64, error) {
	for _, s := range r.Steps {
		if s.Name == name {
			return float64(s.Bytes) / mib, nil
		}
	}
	return 0, fmt.Errorf("the build report of %s has no step %s", r.Target, name)
}

// devices boots five devices twice, with a debug shell.
func devices(ctx context.Context, root string) ([]Row, error) {
	maker, err := workspace.OpenMaker(ctx, root, target, nil)
	if err != nil {
		return nil, err
	}
	image, err := maker.Image(ctx, "")
	if err != nil {
		return nil, err
	}
	var pss, first, later []float64
	for range runs {
		b, err := bootTwice(ctx, maker, image)
		if err != nil {
			return nil, err
		}
		pss, first, later = append(pss, b.pss), append(first, b.first), append(later, b.later)
	}
	return []Row{
		row("PID 1, engine, logs and control with two containers", "MB PSS", 12, pss, "smaps_rollup of all processes of the runtime"),
		row("init's first instruction to both containers STARTED", "CPU s", 1.2, first, "guest CPU time under emulation, as the engine logs it; the first boot reads and checks all objects"),
		row("the same at the second boot", "CPU s", 1.2, later, "objects are known to be whole"),
	}, nil
}

// boots is what two boots of one device took.
type boots struct {
	pss          float64 // MB
	first, later float64 // s of guest CPU until both containers have started
}

func bootTwice(ctx context.Context, maker *workspace.Maker, image string) (b boots, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return b, err
	}
	defer os.RemoveAll(dir)
	d, err := vm.Boot(ctx, maker.Target.Emulators[0], image, dir)
	if err != nil {
		return b, err
	}
	defer d.Close()
	if b.first, err = ready(ctx, maker, d); err != nil {
		return b, err
	}
	u, err := d.Measure(ctx)
	if err != nil {
		return b, err
	}
	b.pss = float64(u.PSS) * 1024 / 1e6
	if err := d.Reboot(ctx); err != nil {
		return b, err
	}
	b.later, err = ready(ctx, maker, d)
	return b, err
}

// ready waits until all containers run and returns the guest CPU time that it took,
// in seconds.
func ready(ctx context.Context, maker *workspace.Maker, d *vm.Device) (float64, error) {
	if _, err := d.WaitContainers(ctx, emulator.AllReached(len(maker.Target.Containers))); err != nil {
		return 0, err
	}
	line, err := d.Run(ctx, "grep 'guest CPU' /storage/logs/0/pantavisor/pantavisor.log | tail -n 1")
	if err != nil {
		return 0, err
	}
	ms, err := guestCPU(line)
	return ms / 1000, err
}

// guestCPU reads the engine's line "ready: ... guest CPU 640 ms".
func guestCPU(line string) (float64, error) {
	_, rest, ok := strings.Cut(line, "guest CPU ")
	f := strings.Fields(rest)
	if !ok || len(f) == 0 {
		return 0, fmt.Errorf("reading the engine's ready line: %q", line)
	}
	return strconv.ParseFloat(f[0], 64)
}

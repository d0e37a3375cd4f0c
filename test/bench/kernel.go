package bench

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/pantavisor/pantavisor/internal/workspace"
	"github.com/pantavisor/pantavisor/test/vm"
)

// kernels compares the start of a device with a kernel that was compiled for it, which loads no
// modules, with that of the same device with Debian's kernel: from the end of the boot loader
// until both containers have started. The devices take turns.
func kernels(ctx context.Context, root string) ([]Row, error) {
	var ratios []float64
	note := ""
	lean, err := imageOf(ctx, root, target+"-lean")
	if err != nil {
		return nil, err
	}
	debian, err := imageOf(ctx, root, target)
	if err != nil {
		return nil, err
	}
	for range runs {
		a, err := lean.start(ctx)
		if err != nil {
			return nil, err
		}
		b, err := debian.start(ctx)
		if err != nil {
			return nil, err
		}
		ratios = append(ratios, a/b)
		note = fmt.Sprintf("in the last turn %.1f s and %.1f s under emulation", a, b)
	}
	return []Row{row("kernel start to both containers STARTED: compiled kernel against Debian's", "ratio", 0.6, ratios, note)}, nil
}

// started is a target with its image.
type started struct {
	maker *workspace.Maker
	image string
}

func imageOf(ctx context.Context, root, name string) (s started, err error) {
	if s.maker, err = workspace.OpenMaker(ctx, root, name, nil); err != nil {
		return s, err
	}
	s.image, err = s.maker.Image(ctx, "")
	return s, err
}

// start boots the image once and returns the seconds from the kernel's start until all
// containers have.
func (s started) start(ctx context.Context) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	d, err := vm.Boot(ctx, s.maker.Target.Emulators[0], s.image, dir)
	if err != nil {
		return 0, err
	}
	defer d.Close()
	// GRUB says so when it has loaded everything.
	if _, err := d.Console.Expect(ctx, "Booting in blind mode"); err != nil {
		return 0, err
	}
	from := time.Now()
	_, err = d.Console.Ready(ctx)
	return time.Since(from).Seconds(), err
}

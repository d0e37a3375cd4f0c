package powercut

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/emulator"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/scratch"
)

// bootLimit is how long a boot may take until the runtime says which revision runs: emulation on
// a busy machine, and of a slow card.
const bootLimit = 10 * time.Minute

// runs is the first line of the runtime: package init.
var runs = regexp.MustCompile(`revision (\S+) runs \(`)

// bootDisk starts a disk in the emulator, whose content stays as it is, and returns the revision that
// the runtime says it runs.
func bootDisk(ctx context.Context, r *recording, d *disk) (rev string, err error) {
	dir, err := scratch.New("pv-cut-")
	if err != nil {
		return "", err
	}
	defer dir.Remove()
	stop, socket, err := serve(dir.Path, newDisk(d, r.Size))
	if err != nil {
		return "", err
	}
	defer stop()
	cfg := r.Machine
	cfg.Image, cfg.Server, cfg.NoNetwork = "", socket, true
	m, err := emulator.Start(ctx, cfg)
	if err != nil {
		return "", err
	}
	defer m.Close()
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	out, err := m.Console.Expect(ctx, " runs (")
	if err != nil {
		return "", fault.New(fault.Goal, "%w\n%s", err, strings.Join(m.Console.Tail(40), "\n"))
	}
	said := runs.FindStringSubmatch(out)
	if said == nil {
		return "", fmt.Errorf("the console does not say which revision runs: %s", out)
	}
	return said[1], nil
}

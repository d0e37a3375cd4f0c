package init

import (
	"context"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/modules"
)

// lowest is the priority behind everything else.
const lowest = 19

// ColdPlug is the command "cold-plug": it loads the modules for all devices of
// the machine at the lowest priority and returns 1 when some did not load. Process
// 1 starts it once the revision runs.
func ColdPlug(ctx context.Context, _ []string, _ io.Reader, _, stderr io.Writer) int {
	if unix.Setpgid(0, 0) == nil { // a group of its own has all of its threads and nothing else
		_ = unix.Setpriority(unix.PRIO_PGRP, 0, lowest)
	}
	dir, err := modules.Folder("/")
	if err == nil {
		l := modules.NewLoader(dir)
		if l.Options, err = modules.ReadOptions("/etc/modprobe.d"); err == nil {
			_, err = l.ColdPlug(ctx)
		}
	}
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "pantavisor cold-plug: %v\n", err)
		return 1
	}
	return 0
}

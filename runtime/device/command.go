package device

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/handoff"
)

// configFile is the configuration in the initrd.
const configFile = "/etc/pantavisor.config"

// comm is the process's name.
const comm = "pv-engine"

// Command is the program "engine", which process 1 starts: it reads the values that
// process 1 hands over and the configuration, and runs the revision. version is the
// runtime's.
func Command(ctx context.Context, args []string, version string, stdout, stderr io.Writer) int {
	_ = os.WriteFile("/proc/self/comm", []byte(comm), 0) // for ps: process 1 starts us as "exe"
	opt, err := fromEnviron()
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "pantavisor engine: %s: %v\n", handoff.EnvRevision, err)
		return 1
	}
	cfg, err := loadConfig(config.Sources{File: configFile, Cmdline: "/proc/cmdline", Environ: os.Environ(), Args: args}, opt.EarlyLog != nil)
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "pantavisor engine: %v\n", err)
	}
	opt.Version, opt.Stdout = version, stdout
	return Run(ctx, cfg, opt)
}

// loadConfig loads the configuration. reported says that process 1, which has loaded the
// same sources, has logged their mistakes in the early log: they are not logged again.
func loadConfig(s config.Sources, reported bool) (*config.Config, error) {
	cfg, err := config.Load(s)
	if reported {
		cfg.Notes()
	}
	return cfg, err
}

package appengine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/boot"
	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/device"
	"github.com/pantavisor/pantavisor/runtime/handoff"
	"github.com/pantavisor/pantavisor/runtime/program"
)

// Exit codes beside those of package handoff.
const (
	exitFailed = 1 // it could not begin
	exitUsage  = 2
)

const usage = `usage: pantavisor -i [--prefix DIR] [--config FILE] [--cmdline TEXT] [--once]

Runs the containers of an installation on this machine, in the foreground, until
SIGTERM (exit code 0), SIGINT or POWEROFF_DEVICE (exit code 3). It needs root.

  --prefix DIR     where the installation is; default: the directory of this program
  --config FILE    configuration; default: PREFIX/etc/pantavisor.config
  --cmdline TEXT   stands in for the kernel command line, as pv_log.level=5
  --once           end with exit code 0 where a device would reboot

  sudo /opt/pantavisor/pantavisor -i
  sudo /opt/pantavisor/pantavisor -i --prefix /srv/second
  sudo /opt/pantavisor/pvcontrol ls
`

// options are the words of the command line.
type options struct {
	prefix, config string
	cmdline        *string // nil: the kernel's
	once, help     bool
}

func parse(args []string) (o options, err error) {
	for len(args) > 0 {
		name, value, given := strings.Cut(args[0], "=")
		args = args[1:]
		take := func() string {
			if !given && len(args) == 0 {
				err = fmt.Errorf("option %s needs a value", name)
				return ""
			}
			if !given {
				value, args = args[0], args[1:]
			}
			return value
		}
		switch name {
		case "-i", "pv_appengine":
		case "--prefix":
			o.prefix = take()
		case "--config":
			o.config = take()
		case "--cmdline":
			text := take()
			o.cmdline = &text
		case "--once":
			o.once = true
		case "-h", "-help", "--help":
			o.help = true
		default:
			err = fmt.Errorf("unknown option %q", name)
		}
		if err != nil {
			return o, err
		}
	}
	return o, o.complete()
}

// complete makes paths absolute: the program changes no directory, but it tells them.
func (o *options) complete() (err error) {
	if o.prefix == "" {
		exe, err := program.File()
		if err != nil {
			return fmt.Errorf("looking for this program's directory: %w", err)
		}
		o.prefix = filepath.Dir(exe)
	}
	if o.prefix, err = filepath.Abs(o.prefix); err != nil {
		return err
	}
	if o.config == "" {
		o.config = filepath.Join(o.prefix, "etc", "pantavisor.config")
	}
	o.config, err = filepath.Abs(o.config)
	return err
}

// Command is "pantavisor -i"; args are without the program's name. version is the
// runtime's.
func Command(ctx context.Context, args []string, version string, stdout, stderr io.Writer) int {
	o, err := parse(args)
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "pantavisor -i: %v\n%s", err, usage)
		return exitUsage
	}
	if o.help {
		_, _ = io.WriteString(stdout, usage)
		return 0
	}
	code, err := run(ctx, o, version, stdout, stderr)
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "pantavisor -i: %v\n", err)
		return exitFailed
	}
	return code
}

// run is one start: from the lock to the last trace that is removed.
func run(ctx context.Context, o options, version string, stdout, stderr io.Writer) (int, error) {
	if os.Geteuid() != 0 {
		return 0, errors.New("mounts and control groups need root; start it with sudo")
	}
	if err := ownMounts(); err != nil {
		return 0, err
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	defer signal.Stop(signals)
	cfg, err := load(o)
	if err != nil {
		return 0, err
	}
	in, err := claim(cfg.String(config.SystemRunDir))
	if err != nil {
		return 0, err
	}
	defer in.release()
	tree, err := in.prepare(ctx, cfg, stderr)
	if err != nil {
		return 0, err
	}
	rev, err := revision(o, cfg)
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "pantavisor -i: %v\n", err)
	}
	_ = os.WriteFile("/proc/self/comm", []byte(comm), 0) // for ps: it was started as "exe"
	code, signalled := serve(ctx, signals, cfg, device.Options{
		Revision: rev, Version: version, BuildInfo: buildInfo(o.prefix, version),
		BootCPU: -1, Stdout: stdout, Tree: tree, Hosted: true, Owner: owner(),
	})
	if err := in.clear(ctx, tree); err != nil {
		_, _ = fmt.Fprintf(stderr, "pantavisor -i: %v\n", err)
	}
	if code != handoff.ExitReboot || signalled || o.once || ctx.Err() != nil {
		return code, nil
	}
	in.release()
	return 0, again()
}

// maxBuildInfo is the most that is read of the build's manifest.
const maxBuildInfo = 64 << 10

// buildInfo is what the installation was built from: the manifest of its package, or
// the program's version. What the machine has in /etc/build is of something else.
func buildInfo(prefix, version string) string {
	f, err := os.Open(filepath.Join(prefix, "build"))
	if err == nil {
		defer f.Close()
		if text, err := io.ReadAll(io.LimitReader(f, maxBuildInfo)); err == nil && len(text) > 0 {
			return string(text)
		}
	}
	return "release " + version + "\n"
}

// comm is the process's name.
const comm = "pv-appengine"

// serve runs the engine and reports whether a signal ended it. The engine hears some
// of the signals too, but only while it runs.
func serve(ctx context.Context, signals <-chan os.Signal, cfg *config.Config, opt device.Options) (code int, signalled bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var seen atomic.Pointer[os.Signal]
	go func() {
		select {
		case s := <-signals:
			seen.Store(&s)
			cancel()
		case <-ctx.Done():
		}
	}()
	code = device.Run(ctx, cfg, opt)
	s := seen.Load()
	switch {
	case s == nil:
		return code, false
	case *s == unix.SIGINT:
		return handoff.ExitPowerOff, true
	}
	return handoff.ExitReboot, true
}

// load reads the configuration: the prefix gives the defaults of the paths.
func load(o options) (*config.Config, error) {
	s := config.Sources{File: o.config, Cmdline: "/proc/cmdline", Environ: os.Environ(), Args: []string{"pv_appengine"}}
	s.Policies = filepath.Join(o.prefix, "etc", "pantavisor", "policies")
	if o.cmdline != nil {
		s.Cmdline = ""
	}
	cfg, err := config.Load(s)
	if err != nil {
		return nil, fmt.Errorf("%w; --prefix names another installation, --config another file", err)
	}
	if o.cmdline != nil {
		cfg.LoadCmdline(*o.cmdline)
	}
	place(cfg, o.prefix)
	if mode := cfg.Enum(config.SystemInitMode); mode != "appengine" {
		return nil, fmt.Errorf("PV_SYSTEM_INIT_MODE is %s (%v), but this is not process 1; leave it out or set it to appengine", mode, cfg.From(config.SystemInitMode))
	}
	return cfg, nil
}

// place sets the defaults of paths: below the prefix, and what is on the storage
// below wherever the storage is.
func place(c *config.Config, prefix string) {
	for k, name := range map[config.Key]string{
		config.StorageMntPoint: "storage", config.SystemRunDir: "run/pv", config.SystemMediaDir: "run/media",
		config.SystemConfDir: "run/configs", config.SystemDisksDir: "run/disks", config.DiskVolDir: "run/volumes",
		config.DiskExportsDir: "run/exports", config.DiskWritableDir: "run/writable", config.SystemEtcDir: "etc",
		config.SystemEtcPantavisorDir: "etc/pantavisor", config.SystemLibDir: "lib", config.CertsDir: "etc/thttp/certs",
	} {
		c.SetDefault(k, filepath.Join(prefix, name))
	}
	storage := c.String(config.StorageMntPoint)
	for k, name := range map[config.Key]string{
		config.LogDir: "logs", config.CacheUsrmetaDir: "cache/usrmeta", config.CacheDevmetaDir: "cache/devmeta",
		config.DropbearCacheDir: "cache/dropbear",
	} {
		c.SetDefault(k, filepath.Join(storage, name))
	}
}

// revision is what a boot loader would boot: pv_rev of --cmdline, else what the
// store on the storage says. It is usable also when there is an error.
func revision(o options, cfg *config.Config) (string, error) {
	if o.cmdline != nil {
		if rev, err := boot.Booted(nil, *o.cmdline); rev != "" && err == nil {
			return rev, nil
		}
	}
	store, err := boot.Open("uboot", cfg.String(config.StorageMntPoint))
	if err != nil {
		return boot.Factory, err
	}
	return boot.Pick(store)
}

// again replaces this program by a new run of it, as a device is by its reboot. A
// new version of the program that has been installed meanwhile is taken.
func again() error {
	exe, err := program.File()
	if err == nil {
		err = syscall.Exec(exe, os.Args, os.Environ())
	}
	return fmt.Errorf("starting anew: %w", err)
}

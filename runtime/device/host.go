package device

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/runtime/container"
	"github.com/pantavisor/pantavisor/runtime/drivers"
	"github.com/pantavisor/pantavisor/runtime/engine"
	"github.com/pantavisor/pantavisor/runtime/logs"
	"github.com/pantavisor/pantavisor/runtime/meta"
	"github.com/pantavisor/pantavisor/runtime/step"
	"github.com/pantavisor/pantavisor/runtime/volume"
)

// host is the backend on a real machine, for the containers of one revision.
type host struct {
	rev      *revision
	paths    paths
	log      logs.Logger
	server   *logs.Server
	files    *step.Files
	owner    func(key string) (part string, ok bool) // of a key of the state
	mounter  *volume.Mounter
	launcher *container.Launcher
	user     *meta.Store
	device   *meta.Store
	drivers  *drivers.Set
	capture  bool                              // PV_LOG_CAPTURE
	loggers  bool                              // PV_LOG_LOGGERS
	policy   string                            // PV_REMOUNT_POLICY
	remount  map[string][]manifest.RemountRule // of device.json
	lxcLevel int                               // PV_LXC_LOG_LEVEL
	broken   error                             // why no container can run on this machine
}

var _ engine.Backend = (*host)(nil)

// instance is one run of a container.
type instance struct {
	host *host
	c    *manifest.Container
	set  *volume.Set
	cfg  *container.Config // nil for a container that is only mounted
	proc *container.Process
	logs *logs.Follower // nil when no files are followed
	dev  *logs.Syslog   // nil without a /dev/log of its own
}

var _ engine.Instance = (*instance)(nil)

// Mount checks the container's files, mounts its volumes and reads its configuration.
func (h *host) Mount(ctx context.Context, c *manifest.Container) (engine.Instance, error) {
	h.rev.users.Add(1)
	l, err := h.mount(ctx, c)
	if err != nil {
		h.rev.users.Add(-1)
		return nil, err
	}
	return l, nil
}

func (h *host) mount(ctx context.Context, c *manifest.Container) (*instance, error) {
	if h.broken != nil {
		return nil, engine.Permanent(h.broken)
	}
	if err := h.check(ctx, c.Name); err != nil {
		return nil, err
	}
	l := &instance{host: h, c: c}
	var err error
	if l.set, err = h.mounter.Mount(c); err != nil {
		return nil, err
	}
	if c.Goal == manifest.Mounted {
		return l, nil
	}
	if l.cfg, err = h.configure(c); err != nil {
		return nil, errors.Join(engine.Permanent(err), l.set.Unmount())
	}
	if err := h.drivers.Start(c); err != nil {
		return nil, errors.Join(err, l.set.Unmount())
	}
	return l, nil
}

// check checks the files of a container.
func (h *host) check(ctx context.Context, name string) error {
	err := h.files.Check(ctx, func(key string) bool {
		owner, ok := h.owner(key)
		return ok && owner == name
	})
	var damage *step.Damage
	if errors.As(err, &damage) {
		return engine.Permanent(err)
	}
	return err
}

// configure reads the container's LXC configuration.
func (h *host) configure(c *manifest.Container) (*container.Config, error) {
	if c.Config == "" {
		return nil, errors.New(`run.json has no "config", so there is nothing to start`)
	}
	cfg, notes, err := container.ParseFile(filepath.Join(h.rev.trail, c.Name, c.Config))
	if err != nil {
		return nil, err
	}
	for _, n := range notes {
		h.log.Warnf("container %s: %s: %s", c.Name, c.Config, n)
		h.launcherLog(c.Name, lxcWarn, n.String())
	}
	cfg.Translate(h.paths.directories())
	return cfg, joinNetwork(c, cfg)
}

// Start starts the container's init and captures its console.
func (l *instance) Start() error {
	mounts, err := l.host.mounts(l.c)
	if err != nil {
		return err
	}
	if l.c.DevLog {
		mounts = append(mounts, l.devLog())
	}
	s := container.Start{Name: l.c.Name, Config: l.cfg, Kind: "pv-" + l.c.Group, Mounts: mounts}
	connectTo(&s, l.c)
	s.Volumes = l.host.paths.written()
	s.Exports, s.ExportDir, s.Remounts = l.c.Exports, l.host.paths.exports, l.host.remounts(l.c)
	if l.set.Config != "" {
		s.Above = []string{l.set.Config}
	}
	if l.proc, err = l.host.launcher.Start(s); err != nil {
		return err
	}
	l.host.captureConsole(l.c.Name, l.proc.Console)
	l.host.launcherLog(l.c.Name, lxcInfo, fmt.Sprintf("started, init is process %d", l.proc.PID))
	l.logs = l.host.followFiles(l.c, l.proc)
	return nil
}

// captureConsole logs what the container prints. The console is read even when nothing
// is logged: a full one blocks the container.
func (h *host) captureConsole(name string, console *os.File) {
	if console == nil {
		return
	}
	if h.capture && h.server != nil {
		err := h.server.Subscribe(console, name, consoleSource, logs.Info)
		if err == nil {
			return
		}
		h.log.Warnf("container %s: capturing the console: %v", name, err)
	}
	go func() {
		_, _ = io.Copy(io.Discard, console)
		_ = console.Close()
	}()
}

func (l *instance) Done() <-chan struct{} { return l.proc.Done() }

func (l *instance) Ending() string {
	exit, left := l.proc.Exit()
	if left != nil {
		l.host.log.Errorf("container %s: %v", l.c.Name, left)
	}
	l.host.launcherLog(l.c.Name, lxcInfo, "init "+exit.String())
	return exit.String()
}

func (l *instance) Stop(ctx context.Context) bool { return l.proc.Stop(ctx) }

// Release ends the run and unmounts the volumes. The log files are closed first: open
// ones keep their mounts busy.
func (l *instance) Release() error {
	defer l.host.rev.users.Add(-1)
	if l.logs != nil {
		l.logs.Close()
	}
	if l.dev != nil {
		l.dev.Close()
	}
	return l.set.Unmount()
}

// mounts returns the mounts that the runtime adds to a container: the runtime's
// directories and sockets according to its role, modules and firmware.
func (h *host) mounts(c *manifest.Container) ([]container.Mount, error) {
	var ms []container.Mount
	var err error
	if c.Mgmt {
		ms = h.mgmtMounts()
	} else if ms, err = h.ordinaryMounts(c.Name); err != nil {
		return nil, err
	}
	if c.AutoModFW {
		ms = append(ms, firmwareMounts()...)
	}
	return ms, nil
}

func bind(source, target, create string, flags uintptr) container.Mount {
	return container.Mount{Source: source, Target: target, Type: "none", Flags: unix.MS_BIND | flags, Create: create}
}

// mgmtMounts are those of the role mgmt, which sees everything (manual: Containers, roles).
func (h *host) mgmtMounts() []container.Mount {
	ms := []container.Mount{
		bind(h.paths.run, "/pantavisor", "dir", unix.MS_RDONLY),
		bind(h.paths.logs, "/pantavisor/logs", "dir", unix.MS_RDONLY),
	}
	for _, m := range []struct{ kind, dir string }{{meta.User, h.paths.usrMeta}, {meta.Device, h.paths.devMeta}} {
		if m.dir != "" { // otherwise it is only in the runtime's memory
			ms = append(ms, bind(m.dir, "/pantavisor/"+m.kind, "dir", unix.MS_RDONLY))
		}
	}
	return ms
}

// ordinaryMounts are those of a container without the role mgmt: the sockets, its own logs
// and its own metadata. On a read-only mount a container can use the sockets, but cannot
// change their modes, which would affect all containers.
func (h *host) ordinaryMounts(name string) ([]container.Mount, error) {
	own := filepath.Join(h.rev.logs, name)
	if err := os.MkdirAll(own, 0o755); err != nil {
		return nil, fmt.Errorf("making the container's log directory: %w", err)
	}
	var ms []container.Mount
	for _, sock := range []string{"pv-ctrl-log", "pv-fd-log", "pv-ctrl"} {
		ms = append(ms, bind(h.paths.at(sock), "/pantavisor/"+sock, "file", unix.MS_RDONLY))
	}
	ms = append(ms, bind(own, "/pantavisor/logs", "dir", unix.MS_RDONLY))
	if h.paths.copies == "" {
		return ms, nil
	}
	for _, st := range []struct {
		kind  string
		store *meta.Store
	}{{meta.User, h.user}, {meta.Device, h.device}} {
		dir, err := st.store.ContainerDir(name)
		if err != nil {
			return nil, err
		}
		ms = append(ms, bind(dir, "/pantavisor/"+st.kind, "dir", unix.MS_RDONLY))
	}
	return ms, nil
}

// firmwareMounts are the kernel's modules and the firmware, when the device has them.
func firmwareMounts() []container.Mount {
	var ms []container.Mount
	var u unix.Utsname
	dirs := []string{"/lib/firmware"}
	if unix.Uname(&u) == nil {
		dirs = append(dirs, "/lib/modules/"+unix.ByteSliceToString(u.Release[:]))
	}
	for _, d := range dirs {
		if info, err := os.Stat(d); err == nil && info.IsDir() {
			m := bind(d, d, "dir", unix.MS_RDONLY)
			m.Optional = true // an image may have a file in its place
			ms = append(ms, m)
		}
	}
	return ms
}

// remounts returns a container's rules of the remount policy in force: those of
// device.json, then its own.
func (h *host) remounts(c *manifest.Container) (list []container.Remount) {
	for _, r := range slices.Concat(h.remount[h.policy], c.Remount[h.policy]) {
		list = append(list, container.Remount{Pattern: r.Pattern, Options: r.Options})
	}
	return list
}

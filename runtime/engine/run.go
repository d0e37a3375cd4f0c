package engine

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/runtime/boot"
	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/container"
	"github.com/pantavisor/pantavisor/runtime/ctrl"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/handoff"
	"github.com/pantavisor/pantavisor/runtime/logs"
	"github.com/pantavisor/pantavisor/runtime/meta"
	"github.com/pantavisor/pantavisor/runtime/step"
	"github.com/pantavisor/pantavisor/runtime/volume"
)

// Options are what the engine's starter knows.
type Options struct {
	// Revision is the running revision; a name that [boot.Validate] takes.
	Revision string
	// Version is the runtime's version, for device metadata.
	Version string
	// BuildInfo is the text of GET /buildinfo; empty shows /etc/build.
	BuildInfo string
	// EarlyLog is process 1's log, see package handoff; nil without. Run closes it.
	EarlyLog *os.File
	// BootCPU is the processors' busy time when process 1 began, in clock ticks;
	// negative when unknown.
	BootCPU int64
	// Stdout is where log output "stdout" goes; nil is standard output.
	Stdout io.Writer
	// Modules loads kernel modules for containers; the zero value is the kernel's own.
	Modules Modules
	// Tree is where the containers' control groups go; nil finds this process's own.
	Tree *container.Tree
	// Hosted says that the runtime is a guest on a machine that somebody else runs
	// (App Engine): only what is below its own folders is its business.
	Hosted bool
	// Owner tells whether a process in a control group of nobody's container may
	// speak as the runtime itself; nil: those of the runtime's own group, no others.
	Owner func(pid int, group string) bool
}

// session is everything that lives as long as the engine.
type session struct {
	cfg    *config.Config
	opt    Options
	paths  paths
	steps  *step.Store
	logs   *logs.Server
	log    logs.Logger
	engine *Engine
	host   *host
	user   *meta.Store
	device *meta.Store
	tree   *container.Tree
	began  time.Time
	broken error // why the revision's state cannot be used
	wg     sync.WaitGroup
	id     atomic.Pointer[identity]

	serving    context.Context // ends when the session does
	collecting sync.Mutex      // held while garbage is collected
	setting    sync.Mutex      // held while user metadata changes settings
	daemons    *daemons
	drivers    *drivers
	wakes      *wakes
}

func newSession(cfg *config.Config, opt Options) *session {
	p := newPaths(cfg, opt.Revision)
	return &session{cfg: cfg, opt: opt, paths: p, steps: step.Open(p.storage)}
}

// Run runs the revision's containers until ctx ends, which asks for a reboot, or
// somebody asks for a reboot or a power-off. It returns handoff.ExitReboot or
// handoff.ExitPowerOff. Whatever is damaged, it goes on: a device that can still be
// talked to can be mended.
func Run(ctx context.Context, cfg *config.Config, opt Options) int {
	s := newSession(cfg, opt)
	s.began = time.Now()
	serve, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.serving, s.wakes = serve, newWakes(cfg)
	s.wakes.set(wakeBoot, true)
	s.startLogs(serve)
	if err := s.paths.make(); err != nil {
		s.log.Errorf("making the runtime's folders: %v", err)
	}
	s.makeResolvConf()
	s.openLogs(serve)
	defer s.serveHost()()
	for _, dir := range []string{s.paths.exports, s.paths.volumes} {
		if n, err := volume.Sweep(dir); n > 0 || err != nil {
			s.log.Warnf("an earlier run left %d mounts below %s: %v", n, dir, orElse(errorText(err), "unmounted"))
		}
	}
	l := s.loadState()
	defer s.mountOwn(l)()
	s.openMeta()
	s.makeEngine(l)
	s.startDaemons()
	s.serve(serve)
	stopSignals := s.engine.onSignals()
	code := s.engine.loop(ctx)
	stopSignals()
	s.log.Infof("all containers are stopped")
	s.host.closeNetwork()
	if s.tree != nil {
		if err := s.tree.Remove(); err != nil {
			s.log.Warnf("%v", err)
		}
	}
	s.daemons.stop()
	cancel()
	s.wg.Wait()
	s.wakes.set(wakeShutdown, false)
	s.logs.Close()
	return code
}

// resolvConf is the file that exports mount and containers of network fill.
const resolvConf = "/etc/resolv.conf"

// makeResolvConf makes it where it is missing; on a machine of somebody else that is
// the runtime's own.
func (s *session) makeResolvConf() {
	place := resolvConf
	if s.opt.Hosted {
		if _, err := os.Stat(place); err == nil {
			return
		}
		place = s.paths.at("resolv.conf")
		s.paths.resolvConf = place
	}
	if err := touch(place, 0o644); err != nil && !errors.Is(err, fs.ErrPermission) {
		s.log.Errorf("making %s: %v", place, err)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// listen makes a socket in the run folder, before containers bind it, and serves it in
// the background.
func (s *session) listen(ctx context.Context, name, file string, open func(path string) (func(context.Context) error, error)) {
	serve, err := open(s.paths.at(file))
	if err != nil {
		s.log.Errorf("%s: %v", name, err)
		return
	}
	s.background(name, func() error { return serve(ctx) })
}

// background runs a server until the session ends; its error is logged.
func (s *session) background(name string, run func() error) {
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		if err := run(); err != nil && !errors.Is(err, context.Canceled) {
			s.log.Errorf("%s: %v", name, err)
		}
	}()
}

// startLogs makes the log server; messages wait in it until files can be written.
func (s *session) startLogs(ctx context.Context) {
	err := loadMore(s.cfg, s.paths)
	s.logs = logs.New(s.logOptions())
	s.log = logs.Logger{Sink: s.logs, Source: "engine"}
	if err != nil {
		s.log.Named("config").Errorf("%v", err)
	}
	s.sayNotes()
	if f := s.opt.EarlyLog; f != nil {
		go s.readEarlyLog(f)
	}
}

// readEarlyLog moves process 1's messages into the log, until it ends.
func (s *session) readEarlyLog(f *os.File) {
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 64<<10)
	for lines.Scan() {
		var r handoff.Record
		if json.Unmarshal(lines.Bytes(), &r) == nil {
			s.logs.Relay(r.Source, logs.Level(r.Level), r.Msg, time.Duration(r.T*float64(time.Second)), r.Shown)
		}
	}
}

// openLogs lets the log server write and listen.
func (s *session) openLogs(ctx context.Context) {
	if err := s.logs.Open(s.paths.logs, s.opt.Revision); err != nil {
		s.log.Errorf("opening the log folder: %v", err)
	}
	if err := atomicfile.Symlink(s.opt.Revision, filepath.Join(s.paths.logs, "current")); err != nil {
		s.log.Warnf("%v", err)
	}
	s.listen(ctx, "log socket", "pv-ctrl-log", s.logs.ListenMessages)
	s.listen(ctx, "descriptor socket", "pv-fd-log", s.logs.ListenDescriptors)
	if s.cfg.Bool(config.LogCaptureDmesg) {
		s.background("kernel log", func() error { return s.logs.CaptureKernel(ctx) })
	}
}

// openMeta opens the stores; one that cannot be read is kept in memory.
func (s *session) openMeta() {
	open := func(kind, dir string, changed func(string)) *meta.Store {
		o := meta.Options{Kind: kind, Dir: dir, RunDir: s.paths.copies, Changed: changed, Warn: s.log.Named("meta").Warnf}
		st, err := meta.Open(o)
		if err == nil {
			return st
		}
		s.log.Errorf("opening the %s: %v; it is kept in memory", kind, err)
		o.Dir = ""
		st, err = meta.Open(o)
		if err != nil {
			st, _ = meta.Open(meta.Options{Kind: kind})
		}
		return st
	}
	s.user = open(meta.User, s.paths.usrMeta, s.userMetaChanged)
	s.device = open(meta.Device, s.paths.devMeta, nil)
	for _, k := range s.user.Keys() {
		s.userMetaChanged(k)
	}
}

// loadState loads the revision's state, nil when it cannot be used.
func (s *session) loadState() *loaded {
	l, err := load(s.steps, s.opt.Revision, s.manifestOptions(), s.log)
	if err != nil {
		status, message := manifest.Outcome(err)
		s.log.Errorf("revision %s cannot run: %s, %s: %v", s.opt.Revision, status, message, err)
		s.broken, l = err, nil
	}
	return l
}

// makeEngine prepares what the containers of a state need; l is nil without one.
func (s *session) makeEngine(l *loaded) {
	sys := &manifest.System{}
	if l != nil {
		sys = l.sys
	}
	s.drivers = s.makeDrivers(sys)
	h := s.makeHost(l)
	s.host = h
	s.openNetwork(h, sys)
	if h.broken != nil {
		s.log.Errorf("containers cannot run: %v", h.broken)
	}
	s.engine = newEngine(sys, h, s.log)
	s.engine.onStatus = func(st string) { s.publish("pantavisor.status", st) }
	s.engine.onSettle = s.settled
	s.engine.onEnd = func() { s.wakes.set(wakeShutdown, true); s.wakes.set(wakeBoot, false) }
	s.engine.order = s.order
	s.id.Store(&identity{tree: s.tree, engine: s.engine, broken: s.broken, owner: s.opt.Owner})
	if l != nil {
		for part, reason := range l.lost {
			if _, ok := l.state.Get(part + "/run.json"); ok {
				s.engine.add(&manifest.Container{Name: part, Goal: manifest.Started}, reason)
			}
		}
		if err := s.steps.SetCurrent(s.opt.Revision); err != nil {
			s.log.Warnf("%v", err)
		}
		for _, n := range sys.Notes {
			s.log.Warnf("the state: %s", n)
		}
		if err := s.factory(); err != nil {
			s.log.Warnf("%v", err)
		}
	}
	s.describe()
}

func (s *session) manifestOptions() manifest.Options {
	c := s.cfg
	opt := manifest.Options{
		AppEngine:    c.Enum(config.SystemInitMode) == "appengine",
		RPiAB:        c.Enum(config.BootloaderType) == "rpiab",
		GoalsTimeout: c.Duration(config.UpdaterGoalsTimeout), DevLog: c.Bool(config.LogAutoDevlog),
	}
	if c.Enum(config.SecurityDefaultRole) == manifest.RoleMgmt {
		opt.DefaultRole = manifest.RoleMgmt
	}
	groups, err := bounded.ReadFile(filepath.Join(c.String(config.SystemEtcPantavisorDir), "defaults", "groups.json"), 1<<20)
	if err == nil {
		opt.Groups = groups
	}
	return opt
}

// makeHost makes the backend. What it lacks is said by each container's start.
func (s *session) makeHost(l *loaded) *host {
	h := &host{paths: s.paths, log: s.log, server: s.logs, user: s.user, device: s.device, drivers: s.drivers, capture: s.cfg.Bool(config.LogCapture)}
	h.policy = orElse(s.cfg.String(config.RemountPolicy), "default")
	h.loggers, h.lxcLevel = s.cfg.Bool(config.LogLoggers), s.cfg.Int(config.LXCLogLevel)
	h.mounter = s.mounter(l)
	store, err := objects.Create(s.paths.objects)
	h.files = &step.Files{Dir: s.paths.trail, Store: store, Hash: s.cfg.Bool(config.SecurebootChecksum) && os.Getenv("pv_quickboot") != "1"}
	if l != nil {
		h.files.State, h.owner = l.state, l.sys.Owner
		h.remount = l.sys.Remount
	}
	if s.tree = s.opt.Tree; s.tree == nil && err == nil {
		s.tree, err = container.FindTree(s.paths.at("cgroup"))
	}
	h.launcher = &container.Launcher{Tree: s.tree, Stage: s.paths.stage, Log: s.log}
	h.broken = err
	return h
}

// identity tells callers apart.
type identity struct {
	tree   *container.Tree
	engine *Engine
	broken error                            // why there is no state; nil when there is one
	owner  func(pid int, group string) bool // as Options.Owner
}

// resolve names the caller with this process ID by its control group.
func (id *identity) resolve(pid int) (ctrl.Caller, error) {
	if id.tree == nil {
		return ctrl.Caller{}, errors.New("there are no control groups to tell callers by")
	}
	group, err := id.tree.GroupOf(pid)
	if err != nil {
		return ctrl.Caller{}, err
	}
	name, own, ok := id.tree.NameOf(group)
	// On a machine of somebody else the runtime's group may be a session's, or everybody's.
	if own && (id.owner == nil || id.owner(pid, group)) {
		return ctrl.Caller{Name: ctrl.Runtime, Mgmt: true}, nil
	}
	if v := id.engine.view.Load(); ok && !own && v != nil {
		if mgmt, known := v.mgmt[name]; known {
			return ctrl.Caller{Name: name, Mgmt: mgmt}, nil
		}
	}
	if !ok && id.owner != nil && id.owner(pid, group) {
		return ctrl.Caller{Name: ctrl.Runtime, Mgmt: true}, nil
	}
	return ctrl.Caller{}, fmt.Errorf("process %d in control group %s is nobody known", pid, group)
}

// platform names a sender of log messages.
func (s *session) platform(pid int) (string, error) {
	id := s.id.Load()
	if id == nil {
		return "", errNotLoaded
	}
	c, err := id.resolve(pid)
	if c.Name == ctrl.Runtime {
		return logs.Runtime, nil
	}
	return c.Name, err
}

// backends joins what the control socket asks of the engine with who asks.
type backends struct {
	*Engine
	id      *identity
	daemons *daemons
}

var _ ctrl.Engine = backends{}

// Resolve implements ctrl.Engine.
func (a backends) Resolve(pid int) (ctrl.Caller, error) { return a.id.resolve(pid) }

// notLoaded answers lists when the state cannot be used: with the reason, so that
// whoever asks over the network learns it without the log.
func (id *identity) notLoaded() error {
	return &api.Error{Status: errNotLoaded.Status, Text: errNotLoaded.Text + ": " + id.broken.Error()}
}

// Containers implements ctrl.Engine; without a state there is no list.
func (a backends) Containers() ([]api.Container, error) {
	if a.id.broken != nil {
		return nil, a.id.notLoaded()
	}
	return a.Engine.Containers()
}

// Groups implements ctrl.Engine.
func (a backends) Groups() ([]api.Group, error) {
	if a.id.broken != nil {
		return nil, a.id.notLoaded()
	}
	return a.Engine.Groups()
}

// serve opens the control socket, and the port to the host of a virtual machine.
func (s *session) serve(ctx context.Context) {
	srv := ctrl.New(ctrl.Options{
		Engine: backends{s.engine, s.id.Load(), s.daemons}, UserMeta: s.user, DeviceMeta: freshMeta{s.device, s}, Objects: s.paths.objects, Steps: s.steps,
		Config: s.settings, BuildInfo: s.opt.BuildInfo, Log: s.log.Named("ctrl"),
		CheckStep: s.checkStep, Drivers: s.drivers, Wakelocks: s.wakes.show, CollectGarbage: s.collectGarbage,
		StepInUse: func(rev string) bool { return rev == s.opt.Revision },
	})
	s.listen(ctx, "control socket", "pv-ctrl", srv.Listen)
	if !s.opt.Hosted { // the port is of the machine's hypervisor
		s.background("control port", func() error { return srv.ServePort(ctx) })
	}
}

// onSignals turns SIGTERM into a reboot and SIGINT into a power-off.
func (e *Engine) onSignals() (stop func()) {
	c := make(chan os.Signal, 4)
	signal.Notify(c, unix.SIGTERM, unix.SIGINT)
	go func() {
		for sig := range c {
			code := exitReboot
			if sig == unix.SIGINT {
				code = exitPowerOff
			}
			e.post(func() { e.shutdown(code) })
		}
	}()
	return func() {
		signal.Stop(c)
		close(c)
	}
}

// settled tells everybody that the revision is up, or as far up as it gets.
func (s *session) settled(reached, all int) {
	s.wakes.set(wakeBoot, false)
	switch {
	case s.broken != nil:
		s.log.Errorf("not ready: revision %s has no usable state", s.opt.Revision)
	case reached == all:
		s.log.Infof("ready: all %d containers reached their goals in %d ms%s", all, time.Since(s.began).Milliseconds(), s.bootCPU())
	default:
		s.log.Errorf("not ready: %d of %d containers reached their goals", reached, all)
	}
	if err := handoff.Notify(handoff.Ready); err != nil {
		s.log.Warnf("%v", err)
	}
	time.AfterFunc(quiet, debug.FreeOSMemory)
}

// quiet is how long after the start of all containers their console's first lines and
// the readers of their logs are at rest: what the start took goes back to the kernel.
const quiet = time.Second

// bootCPU says how much the processors have worked since process 1 began.
func (s *session) bootCPU() string {
	now := busyTicks("/proc/stat")
	if s.opt.BootCPU < 0 || now < s.opt.BootCPU {
		return ""
	}
	const tick = 10 // milliseconds: USER_HZ is 100 on every architecture we run on
	return fmt.Sprintf(", guest CPU %d ms", (now-s.opt.BootCPU)*tick)
}

// FromEnviron reads what process 1 hands over (package handoff).
func FromEnviron() (Options, error) {
	o := Options{BootCPU: -1, Revision: os.Getenv(handoff.EnvRevision)}
	if o.Revision == "" {
		o.Revision = boot.Factory
	}
	if err := boot.Validate(o.Revision); err != nil {
		return o, err
	}
	if v, err := strconv.ParseInt(os.Getenv(handoff.EnvBootCPU), 10, 64); err == nil {
		o.BootCPU = v
	}
	if v, err := strconv.Atoi(os.Getenv(handoff.EnvEarlyLog)); err == nil && v >= 3 {
		unix.CloseOnExec(v)
		_ = unix.SetNonblock(v, true)
		o.EarlyLog = os.NewFile(uintptr(v), "early log")
	}
	if v, err := strconv.Atoi(os.Getenv(handoff.EnvNotify)); err == nil && v >= 3 {
		unix.CloseOnExec(v)
	}
	return o, nil
}

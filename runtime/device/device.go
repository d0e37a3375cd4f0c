// Package device is the running device: it connects the engine to logs, metadata,
// network, drivers, disks and the control socket, and runs one revision. No package
// below imports it.
//
// Its types:
//
//	session     one run, from the first line of the log to the last (device.go)
//	settings    the configuration and its effect on the log (settings.go)
//	services    goroutines that run in the background until the end (services.go)
//	revision    the running revision and what belongs to it; transitions (revision.go)
//	host        the engine's backend: volumes, files, network, launcher (host.go)
//	backends    the operations of the control socket (backends.go)
//	identity    which container or program sent a request (backends.go)
//	commands    the operations of POST /commands (commands.go)
//	collector   garbage collection (collect.go), also when little is free (threshold.go)
//	stateCheck  whether a state may be stored as a revision (check.go)
//	admission   whether there is space for a revision (space.go)
//	deviceMeta  the device metadata (devmeta.go)
//	ownVolumes  the volumes of the runtime itself (own.go)
//	wakeReasons the reasons to stay awake (wake.go)
//
// A configuration key is declared in package config and read by the type above that it
// concerns.
package device

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/formats/personal"
	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/runtime/boot"
	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/container"
	"github.com/pantavisor/pantavisor/runtime/ctrl"
	"github.com/pantavisor/pantavisor/runtime/daemons"
	"github.com/pantavisor/pantavisor/runtime/drivers"
	"github.com/pantavisor/pantavisor/runtime/engine"
	"github.com/pantavisor/pantavisor/runtime/entry"
	"github.com/pantavisor/pantavisor/runtime/handoff"
	"github.com/pantavisor/pantavisor/runtime/logs"
	"github.com/pantavisor/pantavisor/runtime/meta"
	"github.com/pantavisor/pantavisor/runtime/space"
	"github.com/pantavisor/pantavisor/runtime/step"
	"github.com/pantavisor/pantavisor/runtime/updater"
	"github.com/pantavisor/pantavisor/runtime/verified"
	"github.com/pantavisor/pantavisor/runtime/volume"
)

// Options are the arguments of [Run] that are not in the configuration.
type Options struct {
	// Revision is the running revision, a name that [boot.Validate] accepts.
	Revision string
	// Version is the runtime's version, for device metadata.
	Version string
	// BuildInfo is the text of GET /buildinfo; empty shows /etc/build.
	BuildInfo string
	// EarlyLog is the log of process 1 (see package handoff), or nil. Run closes it.
	EarlyLog *os.File
	// BootCPU is the processors' busy time when process 1 began, in clock ticks;
	// negative when unknown.
	BootCPU int64
	// Stdout is where log output "stdout" goes; nil is standard output.
	Stdout io.Writer
	// Modules loads kernel modules for containers; the zero value uses those of the
	// running kernel.
	Modules drivers.Modules
	// Tree is where the containers' control groups are made; nil means below this
	// process's own.
	Tree *container.Tree
	// Hosted says that the runtime runs on another system (App Engine): it must not
	// touch anything outside its own directories.
	Hosted bool
	// Owner reports whether a process that is in no container's control group has the
	// rights of the runtime itself; nil means only those in the runtime's own group.
	Owner func(pid int, group string) bool
}

// session is one run of a revision: everything that lives as long as the engine.
type session struct {
	cfg      *config.Config
	opt      Options
	paths    paths
	steps    *step.Store
	verified *verified.Marks
	services services
	settings *settings
	logs     *logs.Server
	log      logs.Logger
	user     *meta.Store
	device   *deviceMeta
	drivers  *drivers.Set
	daemons  *daemons.Daemons
	wakes    *wakeReasons
	engine   *engine.Engine
	launcher *container.Launcher
	noGroups error           // why no container can run on this machine
	volumes  *volume.Mounter // of the first revision
	updater  *updater.Updater
	updates  *updates
	store    boot.Store // what the boot loader is to boot
	power    *power
	id       atomic.Pointer[identity]
	revs     revisions
	personal personal.Settings
	stopped  error      // why the containers are stopped; read when they are
	changing sync.Mutex // held while a transition is prepared
	up       bool       // the first revision has settled
}

func newSession(cfg *config.Config, opt Options) *session {
	p := newPaths(cfg)
	return &session{
		cfg: cfg, opt: opt, paths: p, steps: step.Open(p.storage), wakes: newWakeReasons(cfg),
		verified: &verified.Marks{Strict: cfg.Enum(config.SecurebootMode) == "strict"},
	}
}

// revision returns the name of the running revision.
func (s *session) revision() string { return s.revs.running().name }

// Run runs the revision's containers until a client asks for a reboot or a power-off,
// or ctx ends, which means a reboot. It returns handoff.ExitReboot or
// handoff.ExitPowerOff. It goes on in spite of any damage: a device that still answers
// can be mended.
func Run(ctx context.Context, cfg *config.Config, opt Options) int {
	return newSession(cfg, opt).run(ctx)
}

func (s *session) run(ctx context.Context) int {
	serving, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	s.wakes.set(wakeBoot, true)
	r := s.checkOut(s.opt.Revision)
	s.revs.run(r, false)
	s.startLogs(serving)
	defer s.mountLogs()()
	if err := s.paths.make(); err != nil {
		s.log.Errorf("making the runtime's directories: %v", err)
	}
	if err := s.paths.makeResolvConf(s.opt.Hosted); err != nil {
		s.log.Errorf("making %s: %v", s.paths.resolvConf, err)
	}
	s.openLogs()
	s.loadProfiles(ctx)
	defer s.serveHost()()
	s.sweep()
	s.loadState(r)
	if !s.makeUpdater() {
		s.logs.Close()
		return handoff.ExitReboot
	}
	if r.broken != nil {
		s.updater.Fail("state", r.broken)
	}
	own := ownVolumes{mounter: s.mounter(r), paths: &s.paths, log: s.log}
	defer own.mount(r.loaded)()
	s.loadHubVolume()
	s.openMeta()
	s.makeEngine(r)
	s.daemons.Start()
	s.serve()
	stopSignals := onSignals(s.engine)
	code := s.engine.Run(ctx)
	stopSignals()
	s.log.Infof("all containers are stopped")
	s.end(func() { cancel(s.stopped) })
	return code
}

// sweep unmounts what an earlier run left.
func (s *session) sweep() {
	for _, dir := range []string{s.paths.exports, s.paths.volumes} {
		n, err := volume.Sweep(dir)
		switch {
		case err != nil:
			s.log.Warnf("an earlier run left %d mounts below %s: %v", n, dir, err)
		case n > 0:
			s.log.Warnf("an earlier run left %d mounts below %s: unmounted", n, dir)
		}
	}
}

// end releases all resources once the containers are stopped; cancel ends the services.
func (s *session) end(cancel func()) {
	s.closeNetwork()
	if err := s.volumes.Close(); err != nil {
		s.log.Warnf("%v", err)
	}
	if s.launcher.Tree != nil {
		if err := s.launcher.Tree.Remove(); err != nil {
			s.log.Warnf("%v", err)
		}
	}
	s.daemons.Stop()
	cancel()
	s.services.wait()
	s.wakes.set(wakeShutdown, false)
	s.logs.Close()
}

// startLogs makes the log server, which buffers messages until files can be written.
func (s *session) startLogs(serving context.Context) {
	err := loadMore(s.cfg, s.paths, s.revs.running().trail)
	var unread error
	s.personal, unread = readPersonal(s.paths.storage)
	err = errors.Join(err, unread, setPersonalHub(s.cfg, s.personal))
	if !s.opt.Hosted { // whose name is another's
		err = errors.Join(err, setPersonalName(s.personal))
	}
	s.settings = &settings{cfg: s.cfg, stdout: s.opt.Stdout, identify: s.platform}
	s.logs = logs.New(s.settings.logOptions())
	s.log = logs.Logger{Sink: s.logs, Source: "engine"}
	s.settings.logs, s.settings.log = s.logs, s.log
	if !s.opt.Hosted { // process 1 has not read the OEM's file
		s.cfg.ApplySysctls("/proc/sys")
	}
	s.services = services{ctx: serving, run: s.paths.run, log: s.log}
	if err != nil {
		s.log.Named("config").Errorf("%v", err)
	}
	s.settings.logNotes()
	if f := s.opt.EarlyLog; f != nil {
		go readEarlyLog(f, s.logs)
	}
}

// readEarlyLog copies process 1's messages to the log until f ends.
func readEarlyLog(f *os.File, server *logs.Server) {
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 64<<10)
	for lines.Scan() {
		var r handoff.Record
		if json.Unmarshal(lines.Bytes(), &r) == nil {
			server.Relay(r.Source, logs.Level(r.Level), r.Msg, time.Duration(r.T*float64(time.Second)), r.Shown)
		}
	}
}

// openLogs makes the log server write its files and listen on its sockets.
func (s *session) openLogs() {
	if err := s.logs.Open(s.paths.logs, s.revision()); err != nil {
		s.log.Errorf("opening the log directory: %v", err)
	}
	if err := atomicfile.Symlink(s.revision(), filepath.Join(s.paths.logs, "current")); err != nil {
		s.log.Warnf("%v", err)
	}
	s.services.listen("log socket", "pv-ctrl-log", s.logs.ListenMessages)
	s.services.listen("descriptor socket", "pv-fd-log", s.logs.ListenDescriptors)
	if s.cfg.Bool(config.LogCaptureDmesg) {
		s.services.start("kernel log", s.logs.CaptureKernel)
	}
}

// openMeta opens the metadata stores; one that cannot be read is kept in memory.
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
	s.user = open(meta.User, s.paths.usrMeta, s.settings.userMetaChanged)
	s.device = &deviceMeta{
		Store: open(meta.Device, s.paths.devMeta, nil), storage: s.paths.storage, log: s.log,
		reserved: func() int { return s.cfg.Int(config.StorageGCReserved) },
	}
	s.takePersonal()
	s.settings.follow(s.user)
}

// checkOut reads a revision's state and makes the files that its directory lacks: a revision
// may be only its state and objects. It comes before all that reads these files, the
// configuration and so the log among them.
func (s *session) checkOut(rev string) *revision {
	r := &revision{name: rev, trail: s.steps.Dir(rev), logs: filepath.Join(s.paths.logs, rev), began: time.Now()}
	files, err := s.steps.Files(rev, s.paths.objects)
	if err != nil {
		r.broken = fmt.Errorf("loading the state: %w", err)
		return r
	}
	r.state = files.State
	r.unmade = files.Restore(func(string) bool { return true })
	return r
}

// loadState checks a revision's state, which may turn out to be unusable.
func (s *session) loadState(r *revision) {
	if r.unmade != nil {
		s.log.Errorf("files of revision %s are missing: %v", r.name, r.unmade)
	}
	if r.broken == nil {
		r.broken = verify(s.cfg, r.state, s.log)
	}
	if r.broken == nil {
		r.loaded, r.broken = load(r.state, manifestOptions(s.cfg), s.log)
	}
	if r.broken != nil {
		status, message := manifest.Outcome(r.broken)
		s.log.Errorf("revision %s cannot run: %s, %s: %v", r.name, status, message, r.broken)
	}
}

// makeEngine makes the engine and what the containers of a revision need.
func (s *session) makeEngine(r *revision) {
	s.drivers = s.makeDrivers(r.system())
	s.daemons = daemons.New(s.cfg.Enum(config.SystemInitMode), cmp.Or(s.cfg.String(config.SystemUsrDir), "/usr"), s.log.Named("daemons"),
		func(source string, level logs.Level, line string) { s.logs.Log(logs.Runtime, source, level, line) })
	s.makeLauncher()
	s.makeHost(r)
	s.openNetwork(r.host, r.system())
	if r.host.broken != nil {
		s.log.Errorf("containers cannot run: %v", r.host.broken)
	}
	s.engine = engine.New(r.forEngine(), engine.Options{
		Log: s.log, Settled: s.settled, Failed: s.updater.Failed, Stable: s.updater.Stable, Stopping: s.stopping,
		Status: s.publishStatus, Adopted: s.adopted,
	})
	s.engine.SetTrial(s.updater.Ongoing() != nil)
	s.id.Store(&identity{tree: s.launcher.Tree, of: s.launcher.Identify, role: s.engine.Role, owner: s.opt.Owner})
	if r.loaded != nil {
		s.adopt(r)
	}
	s.device.describe(s.opt.Version, r.name, claimed(s.cfg))
	s.device.support(r.state)
}

// publishStatus publishes the revision's status. A revision without a usable state has no
// containers, which does not make it ready.
func (s *session) publishStatus(status string) {
	if s.broken() != nil {
		status = "NONE"
	}
	s.device.publish("pantavisor.status", status)
}

// broken returns why the running revision's state cannot be used, nil when it can.
func (s *session) broken() error { return s.revs.running().broken }

// adopt makes a revision that could be loaded the running one for all others.
func (s *session) adopt(r *revision) {
	if err := s.steps.SetCurrent(r.name); err != nil {
		s.log.Warnf("%v", err)
	}
	for _, n := range r.loaded.sys.Notes {
		s.log.Warnf("the state: %s", n)
	}
}

// manifestOptions returns the settings that matter for reading a state.
func manifestOptions(c *config.Config) manifest.Options {
	opt := manifest.Options{
		AppEngine:    c.Enum(config.SystemInitMode) == "appengine",
		Slot:         boot.Slot(c.Enum(config.BootloaderType)),
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

// makeDrivers prepares the managed drivers of a state.
func (s *session) makeDrivers(sys *manifest.System) *drivers.Set {
	cmdline, _ := bounded.ReadFile("/proc/cmdline", 64<<10) // without it no section of hardware applies
	o := drivers.Options{
		System: sys, Hardware: drivers.Hardware(string(cmdline), s.cfg.String(config.BootloaderFitConfig)),
		Modules: s.opt.Modules, Log: s.log.Named("drivers"),
		Expand: func(store, key string) string {
			if store == "device-meta" {
				value, _ := s.device.Get(key)
				return value
			}
			value, _ := s.user.Get(key)
			return value
		},
	}
	if o.Modules.Insert == nil {
		o.Modules = drivers.Kernel()
	}
	return drivers.New(o)
}

// makeLauncher makes what starts the containers of all revisions. When the machine lacks
// something, the start of each container fails with the reason.
func (s *session) makeLauncher() {
	tree := s.opt.Tree
	if tree == nil {
		tree, s.noGroups = container.FindTree(s.paths.at("cgroup"))
	}
	s.launcher = &container.Launcher{Tree: tree, Stage: s.paths.stage, Entries: s.paths.at(entry.Dir), Log: s.log}
}

// makeHost makes the backend of a revision.
func (s *session) makeHost(r *revision) {
	h := &host{
		rev: r, paths: s.paths, log: s.log, server: s.logs, user: s.user, device: s.device.Store, drivers: s.drivers, launcher: s.launcher,
		mounter: s.mounter(r), capture: s.cfg.Bool(config.LogCapture), loggers: s.cfg.Bool(config.LogLoggers),
		policy: cmp.Or(s.cfg.String(config.RemountPolicy), "default"), lxcLevel: s.cfg.Int(config.LXCLogLevel),
	}
	r.host = h
	if h.mounter.First = s.volumes; s.volumes == nil {
		s.volumes = h.mounter
	}
	store, err := objects.Create(s.paths.objects)
	h.broken = cmp.Or(err, s.noGroups)
	h.files = &step.Files{Dir: r.trail, Store: store, Hash: s.cfg.Bool(config.SecurebootChecksum) && os.Getenv("pv_quickboot") != "1"}
	h.files.Progress, h.files.Verified = s.log.Infof, s.verified
	if r.loaded != nil {
		h.files.State, h.owner, h.remount = r.loaded.state, r.loaded.sys.Owner, r.loaded.sys.Remount
	}
}

// serve serves the control socket, and the port to the host of a virtual machine.
func (s *session) serve() {
	gc := &collector{cfg: s.cfg, inUse: s.revs.inUse, updating: s.updater.InUse, paths: s.paths, steps: s.steps, log: s.log}
	c := &commands{
		ctx: s.services.ctx, cfg: s.cfg, engine: s.engine, updates: s.updater, power: s.power, factory: s.makeFactory,
		save: s.device.Set, collect: func() error { return gc.start(&s.services) }, log: s.log,
	}
	c.remote.Store(isRemote(s.cfg, s.revision()))
	s.services.start("updates", s.updater.Run)
	low := &threshold{cfg: s.cfg, size: s.device.storageSize, collect: gc.collect, log: s.log}
	s.services.start("garbage threshold", low.run)
	room := s.admission()
	room.garbage = gc.garbage
	check := &stateCheck{cfg: s.cfg, objects: s.paths.objects, space: room, log: s.log}
	srv := ctrl.New(ctrl.Options{
		Resolve: s.id.Load().resolve, Engine: backends{s.engine, c, s.broken}, Daemons: s.daemons, UserMeta: s.user, DeviceMeta: s.device,
		Objects: s.paths.objects, Verified: s.verified, Space: space.NewLedger(s.device.usage), Steps: s.steps, CheckStep: check.check,
		StepInUse: s.stepInUse, Updates: updateList{s.updater, s.updates, s.engine.Groups},
		Logs: s.paths.logs, Config: s.settings.list, Drivers: s.drivers, Wakelocks: s.wakes.show, CollectGarbage: gc.collect,
		ObjectStored: low.objectStored, BuildInfo: s.opt.BuildInfo, Log: s.log.Named("ctrl"),
	})
	s.services.listen("control socket", "pv-ctrl", srv.Listen)
	if !s.opt.Hosted { // there the port belongs to the host system
		s.services.start("control port", srv.ServePort)
		s.serveSerial(srv)
	}
}

// serveSerial serves the serial port that an emulator names on the kernel command line. Whoever
// can change that line has the device anyway, unless its boot is secured: then the port is closed.
func (s *session) serveSerial(srv *ctrl.Server) {
	line, err := os.ReadFile("/proc/cmdline")
	tty := ctrl.SerialPort(string(line))
	if err != nil || tty == "" || s.cfg.Enum(config.SecurebootMode) == "strict" {
		return
	}
	s.services.start("control port "+tty, func(ctx context.Context) error { return srv.ServeSerial(ctx, tty) })
}

// stopping is called by the engine when it begins to stop.
func (s *session) stopping(code int, why string) {
	s.wakes.set(wakeShutdown, true)
	s.wakes.set(wakeBoot, false)
	word := handoff.Rebooting
	if code == handoff.ExitPowerOff {
		word = handoff.PoweringOff
	}
	s.stopped = fmt.Errorf("the device stopped for a %s because of %s", word, why)
	s.log.Infof("stopping for %s because of %s", word, why)
	if err := handoff.Notify(word); err != nil {
		s.log.Warnf("%v", err)
	}
}

// settled is called by the engine when no more containers will reach their goals: it
// logs the outcome and publishes it.
func (s *session) settled(o engine.Outcome) {
	s.updater.Settled(o)
	s.wakes.set(wakeBoot, false)
	r, first := s.revs.running(), !s.up
	s.up = true
	switch {
	case r.broken != nil:
		s.log.Errorf("not ready: revision %s has no usable state", r.name)
	case len(o.Below) == 0: // what a user has stopped does not count
		cpu := ""
		if first {
			cpu = s.bootCPU()
		}
		s.log.Infof("ready: all %d containers reached their goals in %d ms%s", o.Reached, time.Since(r.began).Milliseconds(), cpu)
	default:
		s.log.Errorf("not ready: %d of %d containers reached their goals", o.Reached, o.All)
	}
	if first {
		if err := handoff.Notify(handoff.Ready); err != nil {
			s.log.Warnf("%v", err)
		}
	}
	time.AfterFunc(settleTime, debug.FreeOSMemory)
}

// settleTime is the time after the start of all containers until their first output has been
// logged. Memory that only the start needed is then returned to the kernel.
const settleTime = time.Second

// bootCPU returns the processors' busy time since process 1 began, as text for the log.
func (s *session) bootCPU() string {
	now := busyTicks("/proc/stat")
	if s.opt.BootCPU < 0 || now < s.opt.BootCPU {
		return ""
	}
	const tick = 10 // milliseconds: USER_HZ is 100 on every architecture we run on
	return fmt.Sprintf(", guest CPU %d ms", (now-s.opt.BootCPU)*tick)
}

// fromEnviron reads the values that process 1 hands over (package handoff).
func fromEnviron() (Options, error) {
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

package init

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/runtime/boot"
	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/logs"
	"github.com/pantavisor/pantavisor/runtime/modules"
	"github.com/pantavisor/pantavisor/runtime/power"
	"github.com/pantavisor/pantavisor/runtime/shell"
	"github.com/pantavisor/pantavisor/runtime/step"
	"github.com/pantavisor/pantavisor/runtime/storage"
	"github.com/pantavisor/pantavisor/runtime/uevent"
	"github.com/pantavisor/pantavisor/runtime/verified"
	"github.com/pantavisor/pantavisor/runtime/watchdog"
	"golang.org/x/sys/unix"
)

// configFile is the configuration in the initrd.
const configFile = "/etc/pantavisor.config"

// configure loads the configuration and applies what concerns process 1.
func (m *machine) configure(context.Context) error {
	c, err := config.Load(config.Sources{File: configFile, Cmdline: "/proc/cmdline", Environ: os.Environ(), Args: m.args})
	m.config = c
	c.ApplySysctls("/proc/sys")
	if c.Int(config.LogLevel) > int(logs.Info) {
		m.journal.setLevel(logs.Level(c.Int(config.LogLevel)))
	}
	for _, n := range c.Notes() { // the engine, which reads the same, leaves them to us
		m.log.Named("config").Warnf("%s: %s", n.Level, n.Text)
	}
	if err != nil {
		return err
	}
	switch mode := c.Enum(config.SystemInitMode); mode {
	case "embedded", "standalone":
	default:
		return fmt.Errorf("PV_SYSTEM_INIT_MODE=%s: process 1 knows embedded and standalone", mode)
	}
	if c.Bool(config.SystemMountSecurityfs) {
		e := earlyMount{target: "/sys/kernel/security", typ: "securityfs", flags: plain}
		if err := e.mount(); err != nil {
			m.log.Warnf("%v", err)
		}
	}
	return nil
}

// earlyModules loads what the initrd has for the devices of this machine until the
// storage is there, what the storage needs, and goes on doing so for devices that
// come later. Devices that wait now get their drivers from plugRest.
func (m *machine) earlyModules(ctx context.Context) error {
	dir, err := modules.Directory("/")
	if err != nil {
		return err
	}
	m.modules = modules.NewLoader(dir)
	log := m.log.Named("modules")
	settings, err := modules.Read(modulesConf, kernelLine)
	if err != nil {
		log.Warnf("%v", err)
	}
	m.modules.Settings = settings
	events, err := uevent.Listen()
	if err != nil {
		return err
	}
	m.modules.Idle = func(err error) { log.Debugf("%v", err) }
	n, err := m.modules.ColdPlug(ctx, m.storageSeen)
	if err != nil {
		log.Warnf("%v", err)
	}
	if err := m.modules.Load(m.missingDrivers()...); err != nil {
		log.Warnf("%v", err)
	}
	log.Debugf("%d modules for the devices of this machine", n)
	m.background("modules", func() error {
		return m.modules.HotPlug(ctx, events, func(err error) { log.Warnf("%v", err) })
	})
	m.background("power", func() error {
		found := func(device string) { m.log.Named("power").Debugf("%s has a power button", device) }
		return power.Watch(ctx, power.Directory, found, func() { m.ask(powerOff, "power button") })
	})
	return nil
}

// storageSeen reports whether the storage is there, so that no more drivers are
// needed for it, and keeps it.
func (m *machine) storageSeen() bool {
	if m.standalone() || m.config.Bool(config.SystemDriversLoadEarlyAuto) {
		return false // no later cold plug comes, or all drivers are wanted now
	}
	dev, others, ok := storage.Look(m.wanted())
	if ok {
		m.seen = &sighting{dev, others}
	}
	return ok
}

// sighting is the storage, and the devices that could be taken for it.
type sighting struct {
	device storage.Device
	others []storage.Device
}

func (m *machine) wanted() storage.Want {
	return storage.Want{Spec: m.config.String(config.StorageDevice), BootPart: os.Getenv("pv_boot_partuuid")}
}

func (m *machine) standalone() bool { return m.config.Enum(config.SystemInitMode) == "standalone" }

// missingDrivers are the modules by name that the storage, containers and the boot loader's
// store need and that the kernel does not have built in.
func (m *machine) missingDrivers() []string {
	typ := m.config.String(config.StorageFSType)
	if typ == "" {
		typ = "ext4"
	}
	var out []string
	if typ == "ubifs" && !modules.Filesystem(typ) {
		// It asks for its compressors by the kernel's own modprobe, which the initrd lacks.
		out = append(out, "lzo", "deflate", "zstd")
	}
	types := []string{typ, "squashfs", "overlay"}
	if m.config.Enum(config.BootloaderType) == "efiab" {
		types = append(types, "efivarfs") // it says which partition was booted
	}
	for _, fsType := range types {
		if !modules.Filesystem(fsType) {
			out = append(out, fsType)
		}
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		out = append(out, "loop")
	}
	return out
}

// startWatchdog begins to feed the watchdog if the mode says so.
func (m *machine) startWatchdog(context.Context) error {
	mode := watchdog.Mode(m.config.Enum(config.WatchdogMode))
	m.watchdog = watchdog.New(watchdog.Device, mode, m.config.Duration(config.WatchdogTimeout))
	m.stage(watchdog.Starting)
	return nil
}

func (m *machine) stage(s watchdog.Stage) {
	if err := m.watchdog.Enter(s); err != nil {
		m.log.Named("watchdog").Warnf("%v (PV_WDT_MODE)", err)
	}
}

// offerShell puts the debug shell on the console if the configuration allows it.
func (m *machine) offerShell(ctx context.Context) error {
	if !m.config.Bool(config.DebugShell) {
		return nil
	}
	c := m.console()
	if err := c.Available(); err != nil {
		m.log.Named("shell").Infof("%v", err)
		return nil
	}
	m.background("shell", func() error { return c.Run(ctx) })
	return nil
}

func (m *machine) console() *shell.Console {
	return &shell.Console{TTY: shell.Terminal("/dev", "/sys"), Program: "/bin/sh", Marker: shell.Marker,
		Autologin: m.config.Bool(config.DebugShellAutologin), Spawner: m.reaper}
}

// mountStorage finds, grows and mounts the storage, and learns from it which
// revision runs.
func (m *machine) mountStorage(ctx context.Context) error {
	if m.standalone() {
		return nil
	}
	dev, err := m.findStorage(ctx)
	if err != nil {
		return err
	}
	m.grow("partition", func() (bool, error) { return storage.GrowPartition(dev) })
	o := storage.MountOptions{Target: m.config.String(config.StorageMntPoint), Type: m.config.String(config.StorageFSType)}
	if o.Target == "" {
		o.Target = "/storage"
	}
	o.Warn = func(text string) { m.log.Named("storage").Warnf("%s", text) }
	if err := storage.Mount(dev, o); err != nil {
		return err
	}
	m.storage, m.device = o.Target, dev.Path
	m.grow("file system", func() (bool, error) { return storage.GrowFilesystem(dev, o.Target) })
	return m.readBoot()
}

func (m *machine) findStorage(ctx context.Context) (storage.Device, error) {
	if m.seen == nil {
		ctx, cancel := context.WithTimeout(ctx, m.config.Duration(config.StorageWait))
		defer cancel()
		began := time.Now()
		dev, others, err := storage.Find(ctx, m.wanted())
		if err != nil {
			return dev, fmt.Errorf("%w (PV_STORAGE_DEVICE, waited %v of PV_STORAGE_WAIT)", err, time.Since(began).Round(time.Second))
		}
		m.seen = &sighting{dev, others}
	}
	spec, dev, others := cmp.Or(m.config.String(config.StorageDevice), "the storage"), m.seen.device, m.seen.others
	log := m.log.Named("storage")
	log.Infof("%s is %s (%s)", spec, dev.Path, dev.Super.Type)
	for _, o := range others {
		log.Warnf("%s is also %s: %s is used; give the disks different labels or use PARTUUID=", spec, o.Path, dev.Path)
	}
	if dev.Super.Errors {
		log.Errorf("%s has errors that need e2fsck on another machine; going on", dev.Path)
	}
	if dev.Super.Dirty {
		log.Infof("%s was not unmounted; its journal is replayed", dev.Path)
	}
	return dev, nil
}

// grow tries to use the whole medium; a storage that stays small is still good.
func (m *machine) grow(what string, do func() (bool, error)) {
	line, _ := os.ReadFile("/proc/cmdline") // growing is the default
	for _, w := range append(strings.Fields(string(line)), os.Environ()...) {
		if w == "pv_autogrow=off" {
			return
		}
	}
	log := m.log.Named("storage")
	switch grown, err := do(); {
	case errors.Is(err, storage.ErrNoTable):
		log.Debugf("%v", err)
	case err != nil:
		log.Warnf("%v", err)
	case grown:
		log.Infof("the storage's %s has grown to the end of the medium", what)
	}
}

// readBoot learns which revision runs.
func (m *machine) readBoot() error {
	log := m.log.Named("boot")
	rev, err := boot.FromSystem()
	if err != nil {
		return err
	}
	values := boot.Values{}
	if found := boot.Detect(m.storage); found != "" {
		m.config.SetDefault(config.BootloaderType, found)
	}
	store, err := boot.Configured(m.config, m.storage)
	if err == nil {
		values, err = store.Load()
	}
	if b, ok := store.(boot.Booter); ok && rev == "" {
		var unknown error
		rev, unknown = b.Booted()
		err = errors.Join(err, unknown)
	}
	if err != nil {
		log.Warnf("%v", err)
	}
	m.running = boot.Decide(rev, values)
	if err := boot.Validate(m.running.Rev); err != nil {
		return err
	}
	log.Infof("revision %s runs (%v)", m.running.Rev, m.running.State)
	if store == nil {
		return nil
	}
	if err := boot.Started(store, m.running); err != nil {
		log.Warnf("%v", err)
	}
	return nil
}

// mountModules mounts the revision's modules and firmware over the initrd's, once their
// content is that of the objects in the revision's state. Without them the device may
// miss drivers, but it comes up.
func (m *machine) mountModules(ctx context.Context) error {
	if m.storage == "" {
		return nil
	}
	log := m.log.Named("modules")
	files, parts, err := m.bspParts()
	if err != nil {
		log.Warnf("%v", err)
		return nil
	}
	for _, p := range parts {
		if err := m.mountPart(ctx, files, p); err != nil {
			log.Warnf("%v", err)
		}
	}
	m.modules.Moved()
	return nil
}

// bspParts reads the modules and firmware of the running revision from its state.
func (m *machine) bspParts() (*step.Files, []part, error) {
	files, err := step.Open(m.storage).Files(m.running.Rev, filepath.Join(m.storage, "objects"))
	if err != nil {
		return nil, nil, fmt.Errorf("reading the BSP's parts: %w", err)
	}
	run, ok := files.State.Get("bsp/run.json")
	if !ok {
		return nil, nil, errors.New("reading the BSP's parts: the revision has no bsp/run.json")
	}
	parts, err := readParts(run)
	files.Hash = m.config.Bool(config.SecurebootChecksum) && os.Getenv("pv_quickboot") != "1"
	files.Progress = m.log.Named("modules").Infof
	files.Verified = &verified.Marks{Strict: m.config.Enum(config.SecurebootMode) == "strict"}
	return files, parts, err
}

func (m *machine) mountPart(ctx context.Context, files *step.Files, p part) error {
	key := path.Join("bsp", p.file)
	if _, ok := files.State.Object(key); !ok {
		return fmt.Errorf("checking %s: the revision has no such object; it is not mounted", key)
	}
	if err := files.Check(ctx, func(k string) bool { return k == key }); err != nil {
		return fmt.Errorf("%w; it is not mounted", err)
	}
	if err := os.MkdirAll(p.target, 0o755); err != nil {
		return fmt.Errorf("making the mount point: %w", err)
	}
	o := storage.LoopOptions{FirstIndex: max(0, m.config.Int(config.LoopIndexBase))}
	return storage.MountSquashfs(filepath.Join(files.Dir, key), p.target, o)
}

// part is an image of the BSP and where it belongs.
type part struct{ file, target string }

// readParts reads modules and firmware from bsp/run.json: "modules" holds
// lib/modules, "modules_RELEASE" one kernel's directory, and "firmware" lib/firmware
// (manual: Pantavisor State Format, bsp/run.json).
func readParts(text []byte) ([]part, error) {
	var run map[string]json.RawMessage
	if err := json.Unmarshal(text, &run); err != nil {
		return nil, fmt.Errorf("reading the BSP's parts in bsp/run.json: %w", err)
	}
	return chooseParts(run)
}

func chooseParts(run map[string]json.RawMessage) ([]part, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return nil, fmt.Errorf("asking for the kernel release: %w", err)
	}
	release := unix.ByteSliceToString(u.Release[:])
	var out []part
	for _, p := range []struct{ key, target string }{
		{"modules_" + release, "/lib/modules/" + release}, {"modules", "/lib/modules"}, {"firmware", "/lib/firmware"},
	} {
		raw, ok := run[p.key]
		if !ok || p.key == "modules" && len(out) > 0 { // this kernel's own image goes before
			continue
		}
		var file string
		if err := json.Unmarshal(raw, &file); err != nil || !fs.ValidPath(file) || file == "." {
			return nil, fmt.Errorf("reading the BSP's parts: %s is %s, want the name of a file in bsp/", p.key, raw)
		}
		out = append(out, part{file, p.target})
	}
	return out, nil
}

package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/ctrl"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/logs"
	"github.com/pantavisor/pantavisor/runtime/modules"
)

// drivers are the managed drivers of the BSP that containers refer to (manual:
// Containers, drivers). A driver is loaded when its first user asks for it; one that
// containers require or want stays loaded when they stop, because a driver that goes
// takes its devices from everybody.
type drivers struct {
	sys      *manifest.System
	hardware []string                           // keys of sections, see [manifest.Drivers.Modules]
	insert   func(module, options string) error // loads a module
	remove   func(module string) error
	expand   func(kind, key string) string // the value of a metadata key
	log      logs.Logger

	mu    sync.Mutex
	users map[string]map[string]bool // of each loaded driver: the containers that loaded it
}

var _ ctrl.Drivers = (*drivers)(nil)

// errNoDriver is for a driver that bsp/drivers.json does not define.
var errNoDriver = errors.New("bsp/drivers.json does not define it")

// start loads what a container requires, which must work, and what it wants.
func (d *drivers) start(c *manifest.Container) error {
	for _, name := range c.Drivers.Required {
		if err := d.load(c.Name, name); err != nil {
			return fmt.Errorf("loading the required driver %s: %w", name, err)
		}
	}
	for _, name := range c.Drivers.Optional {
		if err := d.load(c.Name, name); err != nil {
			d.log.Warnf("container %s: loading the optional driver %s: %v", c.Name, name, err)
		}
	}
	return nil
}

// load loads the modules of a driver in their order; when one fails those before it
// go again.
func (d *drivers) load(user, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.users[name]) > 0 {
		d.users[name][user] = true
		return nil
	}
	lines, ok := d.sys.Drivers.Modules(name, d.hardware...)
	if !ok {
		return errNoDriver
	}
	var done []string
	for _, line := range lines {
		module, options, _ := strings.Cut(strings.TrimSpace(line), " ")
		if err := d.insert(module, d.options(options)); err != nil {
			d.unload(done)
			return err
		}
		done = append(done, module)
	}
	d.users[name] = map[string]bool{user: true}
	return nil
}

// unload removes modules, the last first. One that somebody uses stays.
func (d *drivers) unload(modules []string) {
	for _, m := range slices.Backward(modules) {
		if err := d.remove(m); err != nil {
			d.log.Warnf("unloading module %s: %v", m, err)
		}
	}
}

// release ends a container's use of a driver; the last user's end unloads it.
func (d *drivers) release(user, name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.users[name][user] {
		return
	}
	if delete(d.users[name], user); len(d.users[name]) > 0 {
		return
	}
	lines, _ := d.sys.Drivers.Modules(name, d.hardware...)
	var modules []string
	for _, line := range lines {
		module, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		modules = append(modules, module)
	}
	d.unload(modules)
}

// options fills ${user-meta:KEY} and ${device-meta:KEY} in; a key that is not there
// leaves nothing.
func (d *drivers) options(text string) string {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(text, "${")
		b.WriteString(before)
		if !ok {
			break
		}
		name, after, ok := strings.Cut(rest, "}")
		if !ok {
			b.WriteString("${" + rest)
			break
		}
		kind, key, _ := strings.Cut(name, ":")
		b.WriteString(d.expand(kind, key))
		text = after
	}
	return strings.TrimSpace(b.String())
}

// List implements ctrl.Drivers: the drivers that the container refers to.
func (d *drivers) List(container string) ([]api.Driver, error) {
	c, ok := d.sys.Container(container)
	if !ok {
		return nil, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []api.Driver
	for _, kind := range []struct {
		word  string
		names []string
	}{{"REQUIRED", c.Drivers.Required}, {"OPTIONAL", c.Drivers.Optional}, {"MANUAL", c.Drivers.Manual}} {
		for _, name := range kind.names {
			out = append(out, api.Driver{Name: name, Type: kind.word, Status: d.status(name)})
		}
	}
	return out, nil
}

func (d *drivers) status(name string) string {
	if _, ok := d.sys.Drivers.Modules(name, d.hardware...); !ok {
		return "UNKNOWN"
	}
	if len(d.users[name]) > 0 {
		return "LOADED"
	}
	return "UNLOADED"
}

// manual lists the drivers that a container may load and unload itself: all of its
// manual ones, or the one with the name.
func (d *drivers) manual(container, name string) []string {
	c, ok := d.sys.Container(container)
	if !ok {
		return nil
	}
	if name == "" {
		return c.Drivers.Manual
	}
	if slices.Contains(c.Drivers.Manual, name) {
		return []string{name}
	}
	return nil
}

// Load implements ctrl.Drivers. Drivers that are not the container's manual ones are
// none of its business, and no error: that is how existing clients know it.
func (d *drivers) Load(container, name string) error {
	var errs []error
	for _, n := range d.manual(container, name) {
		if err := d.load(container, n); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", n, err))
		}
	}
	return errors.Join(errs...)
}

// Unload implements ctrl.Drivers.
func (d *drivers) Unload(container, name string) error {
	for _, n := range d.manual(container, name) {
		d.release(container, n)
	}
	return nil
}

// hardware lists the sections of bsp/drivers.json that hold for this board: what the
// boot loader says in pv_bootloader.ovl= and pv_bootloader.dtb= of the kernel's command
// line, and the configuration of the FIT image. Overlays are the most special.
func hardware(cmdline string, c *config.Config) []string {
	var overlays, trees []string
	for _, word := range strings.Fields(cmdline) {
		if v, ok := strings.CutPrefix(word, "pv_bootloader.ovl="); ok {
			for _, o := range strings.Split(v, ",") {
				overlays = append(overlays, "ovl:"+o)
			}
		}
		if v, ok := strings.CutPrefix(word, "pv_bootloader.dtb="); ok {
			trees = append(trees, "dtb:"+v)
		}
	}
	out := append(overlays, trees...)
	if v := c.String(config.BootloaderFitConfig); v != "" {
		out = append(out, "fitconfig:"+v)
	}
	return out
}

// makeDrivers prepares the managed drivers of a state.
func (s *session) makeDrivers(sys *manifest.System) *drivers {
	cmdline, _ := bounded.ReadFile("/proc/cmdline", 64<<10) // none says nothing of the board
	d := &drivers{
		sys: sys, hardware: hardware(string(cmdline), s.cfg), log: s.log.Named("drivers"), users: map[string]map[string]bool{},
		insert: s.opt.Modules.Insert, remove: s.opt.Modules.Remove,
	}
	d.expand = func(kind, key string) string {
		store := s.user
		if kind == "device-meta" {
			store = s.device
		}
		value, _ := store.Get(key)
		return value
	}
	if d.insert == nil {
		m := &kernelModules{}
		d.insert, d.remove = m.insert, m.remove
	}
	return d
}

// Modules loads and removes kernel modules.
type Modules struct {
	// Insert loads a module with what it depends on; options are its parameters.
	Insert func(module, options string) error
	// Remove removes a module; one in use is an error.
	Remove func(module string) error
}

// kernelModules are the modules of the running kernel, looked for when the first is
// asked for.
type kernelModules struct {
	once   sync.Once
	loader *modules.Loader
	err    error
}

func (k *kernelModules) open() (*modules.Loader, error) {
	k.once.Do(func() {
		var dir string
		if dir, k.err = modules.Folder("/"); k.err == nil {
			k.loader = modules.NewLoader(dir)
		}
	})
	return k.loader, k.err
}

func (k *kernelModules) insert(module, options string) error {
	l, err := k.open()
	if err != nil {
		return err
	}
	return l.LoadWith(module, options)
}

func (k *kernelModules) remove(module string) error {
	l, err := k.open()
	if err != nil {
		return err
	}
	return l.Remove(module)
}

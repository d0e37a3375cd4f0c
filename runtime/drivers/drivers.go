// Package drivers loads the managed drivers of the BSP (bsp/drivers.json) that
// containers refer to (manual: Containers, drivers).
package drivers

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/logs"
	"github.com/pantavisor/pantavisor/runtime/modules"
)

// Options are what a [Set] works with.
type Options struct {
	System   *manifest.System               // the state with its drivers and containers; see [Set.Change]
	Hardware []string                       // keys of sections, see [manifest.Drivers.Modules] and [Hardware]
	Modules  Modules                        // loads the modules
	Expand   func(store, key string) string // the value of a key of "user-meta" or "device-meta"
	Log      logs.Logger
}

// Modules loads and removes kernel modules.
type Modules struct {
	// Insert loads a module and its dependencies; options are its parameters.
	Insert func(module, options string) error
	// Remove removes a module; it fails when the module is in use.
	Remove func(module string) error
}

// Set are the managed drivers of a state. A driver is loaded for its first user. Required
// and optional drivers stay loaded when their containers stop, because removing a driver
// removes its devices for all users.
type Set struct {
	Options
	mu    sync.Mutex
	users map[string]map[string]bool // of each loaded driver: the containers that loaded it
}

// New returns the drivers of a state; it loads nothing.
func New(o Options) *Set { return &Set{Options: o, users: map[string]map[string]bool{}} }

// Change makes the drivers those of another state. Drivers that are loaded stay so until
// [Set.Sweep].
func (d *Set) Change(sys *manifest.System) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.System = sys
}

// Sweep ends the use of drivers by containers that the state does not have or that no longer
// refer to them; a driver without users is unloaded.
func (d *Set) Sweep() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, users := range d.users {
		for user := range users {
			if !d.refers(user, name) {
				d.drop(user, name)
			}
		}
	}
}

func (d *Set) refers(container, driver string) bool {
	c, ok := d.System.Container(container)
	if !ok {
		return false
	}
	r := c.Drivers
	return slices.Contains(r.Required, driver) || slices.Contains(r.Optional, driver) || slices.Contains(r.Manual, driver)
}

func (d *Set) container(name string) (*manifest.Container, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.System.Container(name)
}

// errNoDriver is the error for a driver that bsp/drivers.json does not define.
var errNoDriver = errors.New("bsp/drivers.json does not define it")

// Start loads the required drivers of a container, and then the optional ones, whose
// errors are only logged.
func (d *Set) Start(c *manifest.Container) error {
	for _, name := range c.Drivers.Required {
		if err := d.load(c.Name, name); err != nil {
			return fmt.Errorf("loading the required driver %s: %w", name, err)
		}
	}
	for _, name := range c.Drivers.Optional {
		if err := d.load(c.Name, name); err != nil {
			d.Log.Warnf("container %s: loading the optional driver %s: %v", c.Name, name, err)
		}
	}
	return nil
}

// load loads the modules of a driver in their order; when one fails, those before it are
// removed.
func (d *Set) load(user, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.users[name]) > 0 {
		d.users[name][user] = true
		return nil
	}
	lines, ok := d.System.Drivers.Modules(name, d.Hardware...)
	if !ok {
		return errNoDriver
	}
	var done []string
	for _, line := range lines {
		module, options, _ := strings.Cut(strings.TrimSpace(line), " ")
		if err := d.Modules.Insert(module, d.options(options)); err != nil {
			d.unload(done)
			return err
		}
		done = append(done, module)
	}
	d.users[name] = map[string]bool{user: true}
	return nil
}

// unload removes modules, the last first. Modules in use stay.
func (d *Set) unload(modules []string) {
	for _, m := range slices.Backward(modules) {
		if err := d.Modules.Remove(m); err != nil {
			d.Log.Warnf("unloading module %s: %v", m, err)
		}
	}
}

// release ends a container's use of a driver.
func (d *Set) release(user, name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drop(user, name)
}

// drop ends a container's use of a driver; after its last user it is unloaded.
func (d *Set) drop(user, name string) {
	if !d.users[name][user] {
		return
	}
	if delete(d.users[name], user); len(d.users[name]) > 0 {
		return
	}
	lines, _ := d.System.Drivers.Modules(name, d.Hardware...)
	var modules []string
	for _, line := range lines {
		module, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		modules = append(modules, module)
	}
	d.unload(modules)
}

// options expands ${user-meta:KEY} and ${device-meta:KEY}; an absent key expands to nothing.
func (d *Set) options(text string) string {
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
		b.WriteString(d.Expand(kind, key))
		text = after
	}
	return strings.TrimSpace(b.String())
}

// List lists the drivers that the container refers to.
func (d *Set) List(container string) ([]api.Driver, error) {
	c, ok := d.container(container)
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

func (d *Set) status(name string) string {
	if _, ok := d.System.Drivers.Modules(name, d.Hardware...); !ok {
		return "UNKNOWN"
	}
	if len(d.users[name]) > 0 {
		return "LOADED"
	}
	return "UNLOADED"
}

// manual lists the manual drivers of a container: all of them, or the one with the name.
func (d *Set) manual(container, name string) []string {
	c, ok := d.container(container)
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

// Load loads a manual driver of the container, or all of them when the name is empty.
// Other drivers are ignored without an error, as existing clients expect.
func (d *Set) Load(container, name string) error {
	var errs []error
	for _, n := range d.manual(container, name) {
		if err := d.load(container, n); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", n, err))
		}
	}
	return errors.Join(errs...)
}

// Unload ends the container's use of a manual driver, or of all when the name is empty.
func (d *Set) Unload(container, name string) error {
	for _, n := range d.manual(container, name) {
		d.release(container, n)
	}
	return nil
}

// Hardware lists the sections of bsp/drivers.json that apply to this board: the overlays
// and the device tree that the boot loader passes in pv_bootloader.ovl= and
// pv_bootloader.dtb= of the kernel command line, and the configuration of the FIT image.
// The most specific, the overlays, come first.
func Hardware(cmdline, fitConfig string) []string {
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
	if fitConfig != "" {
		out = append(out, "fitconfig:"+fitConfig)
	}
	return out
}

// Kernel returns the modules of the running kernel. They are searched at the first use.
func Kernel() Modules {
	k := &kernelModules{}
	return Modules{Insert: k.insert, Remove: k.remove}
}

// kernelModules are the modules of the running kernel.
type kernelModules struct {
	once   sync.Once
	loader *modules.Loader
	err    error
}

func (k *kernelModules) open() (*modules.Loader, error) {
	k.once.Do(func() {
		var dir string
		if dir, k.err = modules.Directory("/"); k.err == nil {
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

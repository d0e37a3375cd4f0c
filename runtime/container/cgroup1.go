package container

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/runtime/devices"
)

// A machine may have cgroup v1 controllers beside the v2 tree (a hybrid host) or
// alone. A controller that is mounted as v1 has no files in v2 groups, so settings
// for it go to a v1 group of the container's own, which exists for them only.

// legacyTop is where the v1 groups of this tree's containers are in the hierarchy of
// a controller; "" when the controller is not mounted as v1.
func (t *Tree) legacyTop(controller string) string {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	dir, ok := findMount(string(mounts), "cgroup", controller)
	if !ok {
		return ""
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	return filepath.Join(dir, ownController(string(own), controller), t.legacyName())
}

// legacyName is one name for what is a path in the main tree, so that nothing but
// this directory is left to remove.
func (t *Tree) legacyName() string {
	return strings.TrimSuffix("lxc-"+strings.ReplaceAll(strings.Trim(t.path, "/"), "/", "-"), "-")
}

// ownController finds this process's group in the hierarchy of a v1 controller.
func ownController(text, controller string) string {
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) == 3 && strings.Contains(","+f[1]+",", ","+controller+",") {
			return f[2]
		}
	}
	return "/"
}

// settings are what a container's configuration asks of its control groups, sorted
// by where it goes on this machine.
type settings struct {
	unified []Setting // files of the v2 group
	legacy  []Setting // files of v1 groups, of the controllers named before the dot
	devices devices.List
	notes   []Note
}

// settings sorts the settings of a configuration. Those of the other version of
// control groups are translated where there is a counterpart; the rest is noted.
func (t *Tree) settings(c *Config) settings {
	s, known := settings{devices: c.devices()}, map[string]bool{}
	for _, set := range c.Cgroup1 {
		turned, ok := fromV1(set)
		switch name := controllerOf(set); {
		case name == "devices":
		case t.isLegacy(known, name):
			s.legacy = append(s.legacy, set)
		case ok && t.v2:
			s.unified = append(s.unified, turned)
		default:
			s.lost("lxc.cgroup.", set)
		}
	}
	for _, set := range c.Cgroup2 {
		turned, ok := toV1(set)
		switch {
		case controllerOf(set) == "devices":
		case ok && t.isLegacy(known, controllerOf(turned)):
			s.legacy = append(s.legacy, turned)
		case t.v2:
			s.unified = append(s.unified, set)
		default:
			s.lost("lxc.cgroup2.", set)
		}
	}
	return s
}

func (s *settings) lost(prefix string, set Setting) {
	s.notes = append(s.notes, Note{prefix + set.Key,
		fmt.Sprintf("%q has no counterpart among this machine's control groups, ignored", clip(set.Value))})
}

func controllerOf(s Setting) string {
	name, _, _ := strings.Cut(s.Key, ".")
	return name
}

func (t *Tree) isLegacy(known map[string]bool, controller string) bool {
	is, ok := known[controller]
	if !ok {
		is = t.legacyTop(controller) != ""
		known[controller] = is
	}
	return is
}

// devices are the rules for device nodes: those of cgroup v2 if there are any, or
// else those of v1, which mean the same.
func (c *Config) devices() (list devices.List) {
	for _, from := range [][]Setting{c.Cgroup2, c.Cgroup1} {
		for _, s := range from {
			if controllerOf(s) != "devices" {
				continue
			}
			if r, err := devices.Parse(s.Key == "devices.allow", s.Value); err == nil {
				list = append(list, r)
			}
		}
		if list != nil {
			return list
		}
	}
	return nil
}

// checkDevices refuses rules that say nothing.
func checkDevices(key, value string) error {
	switch key {
	case "devices.allow", "devices.deny":
		_, err := devices.Parse(true, value)
		return err
	}
	return nil
}

// join makes the container's group in a controller's v1 hierarchy, once, with the
// process in it.
func (g *Group) join(controller string, pid int) (string, error) {
	if dir, ok := g.legacy[controller]; ok {
		return dir, nil
	}
	top := g.tree.legacyTop(controller)
	if top == "" {
		return "", fmt.Errorf("there is no controller %s on this machine", controller)
	}
	dir := filepath.Join(top, filepath.Base(g.dir))
	legacy := Group{tree: g.tree, dir: dir, fd: -1}
	if err := legacy.remove(removeTime); err != nil { // of an earlier run, with its settings
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("making the group of the controller %s: %w", controller, err)
	}
	if controller == "cpuset" {
		inherit(filepath.Dir(top), top, dir)
	}
	if g.legacy == nil {
		g.legacy = map[string]string{}
	}
	g.legacy[controller] = dir
	return dir, legacy.add(pid)
}

// inherit copies what a v1 cpuset must have before a process may be in it. An error
// shows when the process is added.
func inherit(dirs ...string) {
	for i := 1; i < len(dirs); i++ {
		for _, f := range []string{"cpuset.cpus", "cpuset.mems"} {
			have, err := os.ReadFile(filepath.Join(dirs[i], f))
			if err != nil || strings.TrimSpace(string(have)) != "" {
				continue
			}
			if text, err := os.ReadFile(filepath.Join(dirs[i-1], f)); err == nil {
				_ = os.WriteFile(filepath.Join(dirs[i], f), text, 0)
			}
		}
	}
}

// setLegacy writes the settings for v1 controllers.
func (g *Group) setLegacy(list []Setting, pid int) error {
	for _, s := range list {
		dir, err := g.join(controllerOf(s), pid)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, s.Key), []byte(s.Value), 0); err != nil {
			return fmt.Errorf("setting %s to %q: %w", s.Key, s.Value, err)
		}
	}
	return nil
}

// restrict lets the rules for devices hold from now on.
func (g *Group) restrict(rules devices.List, pid int) error {
	err := devices.ErrNoBPF
	if g.tree.v2 {
		f, oerr := os.Open(g.dir)
		if oerr != nil {
			return fmt.Errorf("opening the control group: %w", oerr)
		}
		err = rules.Attach(int(f.Fd()))
		_ = f.Close()
	}
	if !errors.Is(err, devices.ErrNoBPF) {
		return err
	}
	dir, jerr := g.join("devices", pid)
	if jerr != nil {
		return errors.Join(err, jerr)
	}
	return rules.Write(dir)
}

// legacyControllers are those of v1 that containers get groups of.
var legacyControllers = []string{"blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "memory", "net_cls", "net_prio", "perf_event", "pids", "rdma"}

// sweepLegacy removes the v1 groups that a run which was killed has left, all of whose
// containers have ended.
func (t *Tree) sweepLegacy(within time.Duration) error {
	var errs []error
	for _, c := range legacyControllers {
		if top := t.legacyTop(c); top != "" {
			left := Group{tree: t, dir: top, fd: -1}
			errs = append(errs, left.remove(within))
		}
	}
	return errors.Join(errs...)
}

// removeLegacy takes the container's v1 groups away.
func (g *Group) removeLegacy(within time.Duration) error {
	var errs []error
	for _, dir := range g.legacy {
		legacy := Group{tree: g.tree, dir: dir, fd: -1}
		errs = append(errs, legacy.remove(within))
		_ = os.Remove(filepath.Dir(dir)) // the last container's takes the directory of all with it
	}
	g.legacy = nil
	return errors.Join(errs...)
}

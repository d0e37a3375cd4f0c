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
// alone. A controller that is mounted as v1 has no files in v2 groups, so its settings
// go to a v1 group that the container gets for them only.

// legacyTop returns the directory of the v1 groups of this tree's containers in the
// hierarchy of a controller; "" when the controller is not mounted as v1.
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

// legacyName joins the path in the main tree to one name, so that only one directory
// has to be removed.
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

// settings are the control group settings of a container's configuration, sorted by
// the group they are written to on this machine.
type settings struct {
	unified []Setting // files of the v2 group
	legacy  []Setting // files of v1 groups, of the controllers named before the dot
	devices devices.List
	notes   []Note
}

// settings sorts the settings of a configuration. It translates settings for the other
// cgroup version where there is a counterpart and adds a note for the rest.
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

// devices returns the rules for device nodes: those for cgroup v2 if there are any, or
// else those for v1, which have the same meaning.
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

// checkDevices returns an error for a device rule that cannot be parsed.
func checkDevices(key, value string) error {
	switch key {
	case "devices.allow", "devices.deny":
		_, err := devices.Parse(true, value)
		return err
	}
	return nil
}

// join makes the container's group in a controller's v1 hierarchy, unless it has been
// made, and puts the process in it.
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

// inherit copies the values that a v1 cpuset needs before a process can join it. It
// ignores errors: adding the process fails then.
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

// restrict enforces the device rules from now on.
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

// legacyControllers are the v1 controllers that containers may get groups of.
var legacyControllers = []string{"blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "memory", "net_cls", "net_prio", "perf_event", "pids", "rdma"}

// sweepLegacy removes the v1 groups that a killed run has left. All of its containers
// must have ended.
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

// removeLegacy removes the container's v1 groups.
func (g *Group) removeLegacy(within time.Duration) error {
	var errs []error
	for _, dir := range g.legacy {
		legacy := Group{tree: g.tree, dir: dir, fd: -1}
		errs = append(errs, legacy.remove(within))
		_ = os.Remove(filepath.Dir(dir)) // succeeds only for the last container
	}
	g.legacy = nil
	return errors.Join(errs...)
}

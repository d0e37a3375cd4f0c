package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/runtime/devices"
)

// A machine may have cgroup v1 controllers beside the v2 tree (a hybrid host) or
// alone. A controller that is mounted as v1 has no files in v2 groups, so its settings
// go to a v1 group that the container gets for them only.

// legacyTop returns the directory of the v1 groups of this tree's containers in the
// hierarchy of a controller, at the same path as in the main tree; "" when the controller
// is not mounted as v1.
func (t *Tree) legacyTop(controller string) string {
	if dirs := t.legacyPath(controller); dirs != nil {
		return dirs[len(dirs)-1]
	}
	return ""
}

// legacyPath returns the directories from the root of a v1 hierarchy to legacyTop.
func (t *Tree) legacyPath(controller string) []string {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	dir, ok := findMount(string(mounts), "cgroup", controller)
	if !ok {
		return nil
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil
	}
	dirs := []string{dir}
	for _, name := range strings.Split(path.Join(t.legacyGroup(ownController(string(own), controller)), "lxc"), "/") {
		if name != "" {
			dir = filepath.Join(dir, name)
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// legacyGroup returns the path of the tree in a v1 hierarchy in which this process has the
// group own.
func (t *Tree) legacyGroup(own string) string {
	if t.top {
		return t.path
	}
	return path.Join(own, strings.TrimPrefix(t.path, t.own))
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
// the group they are written to on this machine, in the order in which the kernel takes
// them.
type settings struct {
	unified []Setting // files of the v2 group
	legacy  []Setting // files of v1 groups, of the controllers named before the dot
	// translated are the files of v1 groups that stand for a key of the other version.
	// A kernel may lack them.
	translated map[string]string
	devices    devices.List
	notes      []Note
}

// settings sorts the settings of a configuration. It translates settings for the other
// cgroup version where there is a counterpart and adds a note for the rest.
func (t *Tree) settings(c *Config) settings {
	s := settings{devices: c.devices(), translated: map[string]string{}}
	m := t.controllers()
	for _, set := range c.Cgroup1 {
		turned, ok := fromV1(set, c.Cgroup1)
		switch {
		case controllerOf(set) == "devices":
		case m.legacy(set):
			s.legacy = append(s.legacy, set)
		case ok && (len(turned) == 0 || m.unified(turned[0])):
			s.unified = append(s.unified, without(turned, c.Cgroup2)...)
		default:
			s.lost("lxc.cgroup.", set)
		}
	}
	for _, set := range c.Cgroup2 {
		turned, ok := toV1(set, c.Cgroup2)
		switch {
		case controllerOf(set) == "devices":
		case m.unified(set):
			s.unified = append(s.unified, set)
		case ok && m.legacy(turned[0]):
			s.translate("lxc.cgroup2."+set.Key, without(turned, c.Cgroup1))
		default:
			s.lost("lxc.cgroup2.", set)
		}
	}
	inKernelOrder(s.unified)
	inKernelOrder(s.legacy)
	return s
}

// translate adds settings of v1 groups for a key of the other version.
func (s *settings) translate(key string, list []Setting) {
	for _, set := range list {
		s.translated[set.Key] = key
	}
	s.legacy = append(s.legacy, list...)
}

// without returns the settings whose keys the configuration does not set itself.
func without(list, given []Setting) (rest []Setting) {
	for _, s := range list {
		if _, ok := value(given, s.Key); !ok {
			rest = append(rest, s)
		}
	}
	return rest
}

func (s *settings) lost(prefix string, set Setting) {
	s.notes = append(s.notes, Note{prefix + set.Key,
		fmt.Sprintf("%q has no counterpart among this machine's control groups, ignored", clip(set.Value))})
}

// machine is which controllers of control groups the machine has, and as which version.
type machine struct {
	v1, v2 map[string]bool
	tree   bool // there is a v2 tree
}

// controllers returns the controllers that are mounted as v1, and those of the v2 tree.
func (t *Tree) controllers() machine {
	m := machine{map[string]bool{}, map[string]bool{}, t.v2}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		_, after, _ := strings.Cut(strings.TrimSpace(line), " - ")
		if f := strings.Fields(after); len(f) == 3 && f[0] == "cgroup" {
			for _, o := range strings.Split(f[2], ",") {
				m.v1[o] = o != "rw" && o != "ro" && !strings.Contains(o, "=")
			}
		}
	}
	if text, err := os.ReadFile(filepath.Join(t.Top().dir, "cgroup.controllers")); err == nil && t.v2 {
		for _, c := range strings.Fields(string(text)) {
			m.v2[c] = true
		}
	}
	return m
}

// legacy reports whether a v1 setting has a group on this machine.
func (m machine) legacy(s Setting) bool { return m.v1[controllerOf(s)] }

// unified reports whether a v2 setting belongs to the v2 tree. A controller that is on a
// hybrid machine as v1 only, or not at all, is not in it; a name that is not one of a
// controller gets the kernel's error.
func (m machine) unified(s Setting) bool {
	c := controllerOf(s)
	return m.tree && (m.v2[c] || !m.hybrid() || !slices.Contains(controllers, c))
}

func (m machine) hybrid() bool {
	for _, is := range m.v1 {
		if is {
			return true
		}
	}
	return false
}

func controllerOf(s Setting) string {
	name, _, _ := strings.Cut(s.Key, ".")
	return name
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
	dir, err := g.makeLegacy(controller)
	if err != nil {
		return "", err
	}
	return dir, (&Group{tree: g.tree, dir: dir, fd: -1}).add(pid)
}

// makeLegacy makes the container's group in a controller's v1 hierarchy, unless it has
// been made.
func (g *Group) makeLegacy(controller string) (string, error) {
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
		inherit(append(g.tree.legacyPath(controller), dir)...)
	}
	if g.legacy == nil {
		g.legacy = map[string]string{}
	}
	g.legacy[controller] = dir
	return dir, nil
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

// setLegacy writes the settings for v1 controllers, then puts the process into their
// groups: the kernel takes some settings only for an empty group. It returns a note for
// each translated setting whose file the kernel does not have.
func (g *Group) setLegacy(set settings, pid int) (notes []Note, err error) {
	for _, s := range set.legacy {
		dir, err := g.makeLegacy(controllerOf(s))
		if err != nil {
			return nil, err
		}
		err = os.WriteFile(filepath.Join(dir, s.Key), []byte(s.Value), 0)
		if key, ok := set.translated[s.Key]; ok && errors.Is(err, fs.ErrNotExist) {
			notes = append(notes, Note{key, "this kernel has no " + s.Key + ", ignored"})
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("setting %s to %q: %w", s.Key, s.Value, err)
		}
	}
	for controller := range g.legacy {
		if _, err := g.join(controller, pid); err != nil {
			return nil, err
		}
	}
	return notes, nil
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

// controllers are those of cgroup v2.
var controllers = []string{"cpu", "cpuset", "dmem", "hugetlb", "io", "memory", "misc", "perf_event", "pids", "rdma"}

// legacyControllers are the v1 controllers that containers may get groups of.
var legacyControllers = []string{"blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "memory", "net_cls", "net_prio", "perf_event", "pids", "rdma"}

// sweepLegacy removes the v1 groups of the tree. All of its containers must have ended.
func (t *Tree) sweepLegacy(within time.Duration) error {
	var errs []error
	for _, c := range legacyControllers {
		if top := t.legacyTop(c); top != "" {
			left := Group{tree: t, dir: t.whole(top), fd: -1}
			errs = append(errs, left.remove(within))
		}
	}
	return errors.Join(errs...)
}

// removeLegacy removes the container's v1 groups. The one above them stays until the tree
// is removed: another container may be about to make its own in it.
func (g *Group) removeLegacy(within time.Duration) error {
	var errs []error
	for _, dir := range g.legacy {
		legacy := Group{tree: g.tree, dir: dir, fd: -1}
		errs = append(errs, legacy.remove(within))
	}
	g.legacy = nil
	return errors.Join(errs...)
}

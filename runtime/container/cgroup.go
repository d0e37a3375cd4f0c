package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/octal"
	"github.com/pantavisor/pantavisor/runtime/peer"
)

// Tree is the control group that holds the groups of all containers, as lxc/NAME.
type Tree struct {
	dir  string // directory of the group on this machine
	path string // its path as /proc/PID/cgroup shows it
	own  string // path of the runtime's own group
	v2   bool
	top  bool // it begins at the root of each hierarchy, wherever the runtime itself is
}

// FindTree returns the group of this process in the machine's cgroup v2 tree, also
// on a hybrid host, where that is one of several. On a machine without cgroup v2 it
// mounts the v1 hierarchy "pantavisor" on the given directory.
func FindTree(directory string) (*Tree, error) {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("looking for this process's control group: %w", err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("looking for the cgroup tree: %w", err)
	}
	if p, ok := ownGroup(string(own), "0::"); ok {
		if m, ok := findMount(string(mounts), "cgroup2", ""); ok {
			return &Tree{dir: filepath.Join(m, p), path: p, own: p, v2: true}, nil
		}
	}
	if m, ok := findMount(string(mounts), "cgroup", "name="+peer.NamedHierarchy); ok {
		p, _ := ownGroup(string(own), ":name="+peer.NamedHierarchy+":")
		return &Tree{dir: filepath.Join(m, p), path: path.Join("/", p), own: path.Join("/", p)}, nil
	}
	return mountNamed(directory)
}

func mountNamed(directory string) (*Tree, error) {
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return nil, fmt.Errorf("making the directory of the control groups: %w", err)
	}
	if err := unix.Mount("cgroup", directory, "cgroup", 0, "none,name="+peer.NamedHierarchy); err != nil {
		return nil, fmt.Errorf("mounting the control groups on %s: %w", directory, err)
	}
	return &Tree{dir: directory, path: "/", own: "/"}, nil
}

// ownGroup finds the line with the mark in a process's cgroup file.
func ownGroup(text, mark string) (string, bool) {
	for line := range strings.Lines(text) {
		if _, p, ok := strings.Cut(strings.TrimSuffix(line, "\n"), mark); ok {
			return p, true
		}
	}
	return "", false
}

// findMount returns where the root of a file system with this type and option is
// mounted.
func findMount(mountinfo, fstype, option string) (string, bool) {
	for line := range strings.Lines(mountinfo) {
		before, after, _ := strings.Cut(strings.TrimSpace(line), " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if len(f) < 6 || len(g) < 3 || g[0] != fstype || f[3] != "/" {
			continue
		}
		if option == "" || strings.Contains(","+g[2]+",", ","+option+",") {
			return octal.Unescape(f[4]), true
		}
	}
	return "", false
}

// Top returns the tree at the root of its hierarchy. Only the root group may have both
// processes and controllers (cgroup-v2: No Internal Process Constraint), and the
// runtime's own group may be below it.
func (t *Tree) Top() *Tree {
	return &Tree{dir: strings.TrimSuffix(t.dir, strings.TrimSuffix(t.path, "/")), path: "/", own: t.own, v2: t.v2, top: true}
}

// GroupOf returns the control group of a process in the tree's hierarchy.
func (t *Tree) GroupOf(pid int) (string, error) { return peer.Cgroup(pid, !t.v2) }

// Path returns the tree's group as /proc/PID/cgroup shows it.
func (t *Tree) Path() string { return t.path }

// Sub returns a tree below this one, for the containers of one of several runtimes on
// a machine. The runtime's own group stays the same.
func (t *Tree) Sub(name string) *Tree {
	return &Tree{dir: filepath.Join(t.dir, name), path: path.Join(t.path, name), own: t.own, v2: t.v2, top: t.top}
}

// Remove removes the groups of the containers, all of which must have ended, and the
// group of the tree itself if it belongs to one runtime.
func (t *Tree) Remove() error {
	g := &Group{tree: t, dir: t.whole(filepath.Join(t.dir, "lxc")), fd: -1}
	return errors.Join(g.remove(removeTime), t.sweepLegacy(removeTime))
}

// whole returns what is to be removed with the directory of the containers' groups: it
// alone, or the group above it if that belongs to one runtime.
func (t *Tree) whole(containers string) string {
	if t.path != t.own {
		return filepath.Dir(containers)
	}
	return containers
}

// RemoveParent removes the group above a runtime's own tree, unless another
// runtime of this machine is in it.
func (t *Tree) RemoveParent() {
	if path.Dir(t.path) == "/" {
		return
	}
	_ = unix.Rmdir(filepath.Dir(t.dir))
	for _, c := range legacyControllers {
		if top := t.legacyTop(c); top != "" {
			_ = unix.Rmdir(filepath.Dir(filepath.Dir(top)))
		}
	}
}

// NameOf returns the container that a process in the group belongs to; a group
// within a container's own counts as the container. ok is false for every other
// group. own reports whether the group is the runtime's.
func (t *Tree) NameOf(group string) (name string, own, ok bool) {
	if group == t.own {
		return "", true, true
	}
	rest, ok := strings.CutPrefix(group, path.Join(t.path, "lxc")+"/")
	if !ok {
		return "", false, false
	}
	name, _, _ = strings.Cut(rest, "/")
	return name, false, name != ""
}

// Group is the control group of one container.
type Group struct {
	tree *Tree
	dir  string
	fd   int // directory's descriptor for clone3, -1 on v1
	// legacy are the groups of v1 controllers that the container has, by controller.
	legacy map[string]string
}

// group makes the group of a container; it empties a group that an earlier run left.
func (t *Tree) group(name string, settings []Setting) (*Group, error) {
	g := &Group{tree: t, dir: filepath.Join(t.dir, "lxc", name), fd: -1}
	if err := g.remove(removeTime); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(g.dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the control group: %w", err)
	}
	if !t.v2 {
		return g, nil
	}
	fd, err := unix.Open(g.dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the control group: %w", err)
	}
	g.fd = fd
	if err := g.set(settings); err != nil {
		_ = g.remove(removeTime)
		return nil, err
	}
	return g, nil
}

// set writes cgroup v2 settings and enables the controllers they need.
func (g *Group) set(settings []Setting) error {
	for _, s := range settings {
		controller, _, _ := strings.Cut(s.Key, ".")
		if controller == "devices" {
			continue
		}
		if controller != "cgroup" {
			g.enable(controller)
		}
		err := os.WriteFile(filepath.Join(g.dir, s.Key), []byte(s.Value), 0)
		if err != nil {
			return fmt.Errorf("setting %s to %q: %w", s.Key, s.Value, err)
		}
	}
	return nil
}

// enable enables a controller for the containers' groups. It ignores errors: writing
// the setting fails later, because its file is missing.
func (g *Group) enable(controller string) {
	dir := strings.TrimSuffix(g.tree.dir, strings.TrimSuffix(g.tree.path, "/"))
	for _, name := range append(strings.Split(strings.Trim(g.tree.path, "/"), "/"), "lxc", "") {
		_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+controller), 0)
		dir = filepath.Join(dir, name)
	}
}

func (g *Group) close() {
	if g.fd >= 0 {
		_ = unix.Close(g.fd)
		g.fd = -1
	}
}

// add puts a process into the group.
func (g *Group) add(pid int) error {
	err := os.WriteFile(filepath.Join(g.dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
	if err != nil {
		return fmt.Errorf("joining the control group: %w", err)
	}
	return nil
}

// processes lists the processes in the group itself.
func (g *Group) processes() []int {
	text, err := os.ReadFile(filepath.Join(g.dir, "cgroup.procs"))
	if err != nil {
		return nil
	}
	var pids []int
	for _, f := range strings.Fields(string(text)) {
		if pid, err := strconv.Atoi(f); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// signalAll sends a signal to every process in the group and below.
func (g *Group) signalAll(sig unix.Signal) {
	g.signal(g.processes(), sig)
	entries, _ := os.ReadDir(g.dir)
	for _, e := range entries {
		if e.IsDir() {
			(&Group{tree: g.tree, dir: filepath.Join(g.dir, e.Name()), fd: -1}).signalAll(sig)
		}
	}
}

// held is how many pidfds signal has open at once.
const held = 128

// signal sends a signal to processes of the group. It opens a pidfd for each and then
// checks again that the process is in the group: the PID of a process that has ended
// may be reused, and a container can make PIDs wrap around quickly.
func (g *Group) signal(pids []int, sig unix.Signal) {
	for chunk := range slices.Chunk(pids, held) {
		fds := map[int]int{}
		for _, pid := range chunk {
			if fd, err := unix.PidfdOpen(pid, 0); err == nil {
				fds[pid] = fd
			}
		}
		for _, pid := range g.processes() {
			if fd, ok := fds[pid]; ok {
				_ = unix.PidfdSendSignal(fd, sig, nil, 0)
			}
		}
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}
}

// kill ends every process in the group and below, at once where the kernel can
// (cgroup.kill, Linux 5.14).
func (g *Group) kill() {
	if os.WriteFile(filepath.Join(g.dir, "cgroup.kill"), []byte("1"), 0) == nil {
		return
	}
	g.signalAll(unix.SIGKILL)
}

// removeTime is how long killed processes may take to disappear on a busy machine.
const removeTime = 10 * time.Second

// remove removes the group and the groups that the container made in it. It kills
// processes that joined from outside; the kernel needs a moment to remove them.
func (g *Group) remove(within time.Duration) error {
	g.close()
	deadline := time.Now().Add(within)
	for pause := time.Millisecond; ; pause *= 2 {
		err := removeGroups(g.dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("removing the control group: %w", err)
		}
		g.kill()
		time.Sleep(min(pause, 50*time.Millisecond))
	}
}

func removeGroups(dir string) error {
	if err := unix.Rmdir(dir); err == nil || err == unix.ENOENT {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			_ = removeGroups(filepath.Join(dir, e.Name()))
		}
	}
	if err := unix.Rmdir(dir); err != nil {
		return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}

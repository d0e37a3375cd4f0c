package container

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// A process belongs to the container in whose PID namespace it is, in whatever control
// group it is: a container that may mount can mount the tree of the control groups and
// move its processes in it, but no process leaves its PID namespace. Only a container
// that shares the runtime's PID namespace is known by its mount namespace or group.

// nsfs is an inode number of a namespace (namespaces(7)).
type nsfs uint64

// residents are the running containers by their namespaces. The zero value is empty.
type residents struct {
	mu     sync.Mutex
	pids   map[nsfs]string // PID namespaces of their own
	mounts map[nsfs]string
}

// enter adds a container whose first process has its namespaces.
func (r *residents) enter(name string, pid int, ownPIDs bool) error {
	mounts, err := namespaceOf(pid, "mnt")
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pids == nil {
		r.pids, r.mounts = map[nsfs]string{}, map[nsfs]string{}
	}
	r.mounts[mounts] = name
	if !ownPIDs {
		return nil
	}
	pids, err := namespaceOf(pid, "pid")
	r.pids[pids] = name
	return err
}

// leave removes a container.
func (r *residents) leave(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range []map[nsfs]string{r.pids, r.mounts} {
		for ns, n := range m {
			if n == name {
				delete(m, ns)
			}
		}
	}
}

func (r *residents) byPIDs(ns nsfs) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pids[ns]
}

func (r *residents) byMounts(ns nsfs) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mounts[ns]
}

// sharesPIDs reports whether a running container has no PID namespace of its own.
func (r *residents) sharesPIDs(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.pids {
		if n == name {
			return false
		}
	}
	for _, n := range r.mounts {
		if n == name {
			return true
		}
	}
	return false
}

// namespaceOf returns a namespace of a process by its name in /proc/PID/ns.
func namespaceOf(pid int, name string) (nsfs, error) {
	var st unix.Stat_t
	path := "/proc/" + strconv.Itoa(pid) + "/ns/" + name
	if err := unix.Stat(path, &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return nsfs(st.Ino), nil
}

// errStranger is the error of [Launcher.Identify] for a process that is neither in a
// container nor in the runtime's PID namespace.
var errStranger = errors.New("the process is in a PID namespace that is no running container's")

// Identify returns the container that a process belongs to; "" for a process of the
// device, which is in the runtime's PID namespace and in no container's control group
// or mount namespace. A process of the device that was put into a container's control
// group has the container's rights.
func (l *Launcher) Identify(pid int) (string, error) {
	name, err := l.byNamespace(pid)
	if name != "" || err != nil {
		return name, err
	}
	group, err := l.Tree.GroupOf(pid)
	if err != nil {
		return "", err
	}
	name, _, ok := l.Tree.NameOf(group)
	switch {
	case !ok || name == "":
		return "", nil
	case !l.residents.sharesPIDs(name) && !sharesMounts(pid, 1) && !SharesMounts(pid):
		return "", fmt.Errorf("identifying process %d in the control group of container %s: %w", pid, name, errStranger)
	}
	return name, nil
}

// SharesMounts reports whether a process is in the runtime's own mount namespace.
func SharesMounts(pid int) bool { return sharesMounts(pid, os.Getpid()) }

func sharesMounts(a, b int) bool {
	one, err := namespaceOf(a, "mnt")
	if err != nil {
		return false
	}
	other, err := namespaceOf(b, "mnt")
	return err == nil && one == other
}

// byNamespace walks up from the process's PID namespace to the runtime's own.
func (l *Launcher) byNamespace(pid int) (string, error) {
	own, err := namespaceOf(os.Getpid(), "pid")
	if err != nil {
		return "", err
	}
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/ns/pid", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	for err == nil {
		var st unix.Stat_t
		if err = unix.Fstat(fd, &st); err != nil {
			break
		}
		name := l.residents.byPIDs(nsfs(st.Ino))
		if name != "" || nsfs(st.Ino) == own {
			_ = unix.Close(fd)
			return l.atTop(pid, name)
		}
		var parent int
		parent, err = unix.IoctlRetInt(fd, unix.NS_GET_PARENT)
		_ = unix.Close(fd)
		fd = parent
	}
	if errors.Is(err, unix.EPERM) { // above the runtime's own
		err = errStranger
	}
	return "", fmt.Errorf("identifying process %d: %w", pid, err)
}

// atTop returns the container, or that of the mount namespace of a process in the
// runtime's own PID namespace.
func (l *Launcher) atTop(pid int, name string) (string, error) {
	if name != "" {
		return name, nil
	}
	mounts, err := namespaceOf(pid, "mnt")
	if err != nil {
		return "", err
	}
	return l.residents.byMounts(mounts), nil
}

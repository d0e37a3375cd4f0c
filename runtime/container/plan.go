package container

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/network"
)

// plan is what the launcher sends to the first stage over the socket, see [wire].
type plan struct {
	Stage      string // directory on which the root is mounted
	Root       Root
	Init       []string
	Cwd        string
	Env        []string
	Hostname   string // "" without a UTS namespace
	NewCgroup  bool
	SameKeys   bool // keeps the runtime's session keyring
	OwnNet     bool
	Links      []network.Interface
	Proc       AutoMount
	Sys        AutoMount
	Cgroup     AutoMount
	CgroupV2   bool
	Autodev    bool
	PtyMax     int
	Console    bool
	Mounts     []Mount
	Limits     []Setting
	Sysctls    []Setting
	Caps       uint64
	NoNewPrivs bool
	UID        uint32
	GID        uint32
	Groups     []uint32
	Wait       bool // for the launcher, before init
	TtyMax     int
	Filter     []byte // for system calls, as seccomp.Install takes it
	AppArmor   string
	LabelDir   string // instead of the thread's own, for tests
	Process    []Setting
	Hooks      []Hook
	Hooking    hooking
	Exports    []string
	Remounts   []Remount
	Second     bool // the plan of the second stage
}

// second returns the plan of the second stage, nil without one. The first stage has
// done everything else.
func (p *plan) second() *plan {
	q := &plan{Second: true, Init: p.Init, Env: p.Env, Hooking: p.Hooking}
	for _, h := range p.Hooks {
		if h.Event == "start" {
			q.Hooks = append(q.Hooks, h)
		}
	}
	if q.Hooks == nil {
		return nil
	}
	q.Hooking.Dir = "/"
	return q
}

// Start describes the container to start.
type Start struct {
	// Name is the container's; it names the control group and is the host name
	// when the configuration has none. No "/".
	Name string
	// Config is the container's own configuration.
	Config *Config
	// Kind becomes the variable "container" of init, for example "pv-app".
	Kind string
	// Above are layers put on the lower layers of an overlay root, uppermost first.
	Above []string
	// Mounts come after the configuration's own.
	Mounts []Mount
	// Hostname replaces the host name of the configuration unless it is "".
	Hostname string
	// Pool connects the container to an address pool; nil leaves it to lxc.net.
	Pool *PoolMember
	// Exports are paths of the container that appear below ExportDir/Name while it
	// runs.
	Exports   []string
	ExportDir string
	// Remounts change the options of the container's mounts, in order.
	Remounts []Remount
	// Volumes are directories of the device that hold data of containers.
	Volumes []Volumes
}

// Volumes is a directory of the device that has, Depth levels below it, files and
// directories that containers can change, as in <voldir>/CONTAINER/VOLUME. A container
// can put a symbolic link where a mount has its source. Links in such a volume are
// followed as if it were the root directory: /volumes/app/data/link with the target
// "/srv" means /volumes/app/data/srv.
type Volumes struct {
	Dir   string
	Depth int
}

// below returns the volume that a path is, or is in; "" when there is none.
func below(list []Volumes, p string) string {
	for _, v := range list {
		rest, ok := strings.CutPrefix(path.Clean(p), path.Clean(v.Dir)+"/")
		names := strings.SplitN(rest, "/", v.Depth+1)
		if ok && len(names) >= v.Depth {
			return path.Join(v.Dir, path.Join(names[:v.Depth]...))
		}
	}
	return ""
}

// mounts returns the mounts of the configuration and the runtime's.
func (s Start) mounts() []Mount {
	list := slices.Concat(s.Config.Mounts, s.Mounts)
	for i := range list {
		if m := &list[i]; m.Flags&unix.MS_BIND != 0 && !m.Relative {
			m.Below = below(s.Volumes, m.Source)
		}
	}
	return list
}

// plan makes the first stage's plan of a start.
func (s Start) plan(stage string, v2 bool) (*plan, error) {
	c := s.Config
	if err := s.check(); err != nil {
		return nil, err
	}
	p := &plan{
		Stage: stage, Root: c.Root, Init: c.Init, Cwd: c.Cwd, Hostname: s.hostname(),
		NewCgroup: c.Namespaces&unix.CLONE_NEWCGROUP != 0, OwnNet: c.ownNet(), SameKeys: c.SameKeys,
		Proc: c.Proc, Sys: c.Sys, Cgroup: c.Cgroup, CgroupV2: v2,
		Autodev: c.Autodev, PtyMax: c.PtyMax, Console: c.Console,
		Mounts: s.mounts(), Limits: c.Limits, Sysctls: c.Sysctls,
		Caps: c.Caps(), NoNewPrivs: c.noNewPrivs(), UID: c.UID, GID: c.GID, Groups: c.Groups,
		TtyMax: c.TtyMax, Process: c.Process, Hooks: c.insideHooks(),
	}
	if len(p.Init) == 0 {
		p.Init = []string{"/sbin/init"}
	}
	if len(p.Root.Lowers) > 0 {
		p.Root.Lowers = slices.Concat(s.Above, p.Root.Lowers)
	}
	p.Env = s.env()
	var err error
	p.Exports, err = exportPaths(s.Exports)
	return p, err
}

func (s Start) check() error {
	if s.Name == "" || strings.HasPrefix(s.Name, ".") || strings.ContainsAny(s.Name, "/\n\x00") {
		return fmt.Errorf("%q is not a valid container name", clip(s.Name))
	}
	if s.Config.Root.Dir == "" && len(s.Config.Root.Lowers) == 0 {
		return errors.New("the configuration has no lxc.rootfs.path")
	}
	return s.Config.checkSysctls()
}

func (s Start) hostname() string {
	switch {
	case s.Config.Namespaces&unix.CLONE_NEWUTS == 0:
		return ""
	case s.Hostname != "":
		return s.Hostname
	case s.Config.Hostname != "":
		return s.Config.Hostname
	}
	return s.Name[:min(len(s.Name), 64)]
}

// env returns init's environment: the variable "container" and, unless the
// configuration sets it, PATH.
func (s Start) env() []string {
	env := slices.Clone(s.Config.Env)
	if !slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "PATH=") }) {
		env = append(env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	}
	if n := s.Config.ttys(); n > 0 {
		names := make([]string, n)
		for i := range names {
			names[i] = fmt.Sprintf("pts/%d", i+s.Config.firstTty())
		}
		env = append(env, "container_ttys="+strings.Join(names, " "))
	}
	return append(env, "container="+s.Kind)
}

// ownNet reports whether the container has a network namespace of its own.
func (c *Config) ownNet() bool {
	return c.cloneFlags()&unix.CLONE_NEWNET != 0
}

// cloneFlags returns the namespaces to make at clone. The cgroup namespace is not among
// them: its root would be the launcher's group, so the first stage makes it when it is
// in the container's group. "lxc.net.0.type = none" is the device's own network.
func (c *Config) cloneFlags() uintptr {
	flags := c.Namespaces &^ unix.CLONE_NEWCGROUP
	for _, n := range c.Nets {
		if n.Type == "none" {
			flags &^= unix.CLONE_NEWNET
		}
	}
	return flags
}

// noNewPrivs reports whether set-user-ID programs get no privileges. Unless the
// configuration decides, they get none in a container with restricted capabilities or
// a user other than root; a whole system run by root has its own users and needs su
// and sudo.
func (c *Config) noNewPrivs() bool {
	if c.NoNewPrivs != nil {
		return *c.NoNewPrivs
	}
	return c.CapKeep != nil || c.UID != 0
}

package container

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/octal"
)

// Root is lxc.rootfs.path, parsed.
type Root struct {
	Lowers  []string // lower layers, uppermost first; empty: Dir is the root itself
	Upper   string   // writable layer
	Work    string   // overlay's own directory beside Upper
	Dir     string   // directory of a root without overlay
	Options string   // lxc.rootfs.options
}

// String returns the root as a configuration writes it.
func (r Root) String() string {
	if len(r.Lowers) == 0 {
		return r.Dir
	}
	return "overlayfs:" + strings.Join(append(slices.Clone(r.Lowers), r.Upper), ":")
}

func setRoot(p *parser, v string) error {
	r, err := parseRoot(v)
	r.Options = p.cfg.Root.Options // in any order
	p.cfg.Root = r
	return err
}

// checkOptions checks lxc.rootfs.options, once the path is known.
func (r Root) checkOptions() error {
	for _, o := range strings.Split(r.Options, ",") {
		switch {
		case o == "" || o == "rw" || o == "defaults" || o == "ro" && len(r.Lowers) == 0:
		case o == "ro":
			return errors.New("lxc.rootfs.options: an overlay cannot be ro; use dir:PATH for a root without a writable layer")
		default:
			return fmt.Errorf("lxc.rootfs.options: %q is not supported; expected ro or rw", clip(o))
		}
	}
	return nil
}

// parseRoot reads "overlayfs:LOWER[:LOWER...]:UPPER", "dir:PATH" and "PATH". The
// overlay's work directory is "olwork" beside UPPER, as in overlays that are already
// on disk.
func parseRoot(v string) (Root, error) {
	kind, rest, ok := strings.Cut(v, ":")
	switch {
	case v == "":
		return Root{}, nil
	case v[0] == '/':
		return Root{Dir: v}, nil
	case ok && kind == "dir":
		return Root{Dir: rest}, checkAbsolute([]string{rest})
	case ok && (kind == "overlayfs" || kind == "overlay"):
	default:
		return Root{}, fmt.Errorf("%q is neither a path nor dir:PATH nor overlayfs:LOWER:UPPER", clip(v))
	}
	layers := strings.Split(rest, ":")
	if len(layers) < 2 {
		return Root{}, errors.New("an overlay needs a lower and an upper layer")
	}
	if err := checkAbsolute(layers); err != nil {
		return Root{}, err
	}
	upper := layers[len(layers)-1]
	return Root{Lowers: layers[:len(layers)-1], Upper: upper, Work: path.Join(path.Dir(upper), "olwork")}, nil
}

func checkAbsolute(paths []string) error {
	for _, p := range paths {
		if !path.IsAbs(p) {
			return fmt.Errorf("layer %q is not absolute", clip(p))
		}
	}
	return nil
}

// AutoMount is how lxc.mount.auto mounts one of proc, sys and cgroup.
type AutoMount byte

// Kinds of automatic mounts. Mixed protects files that concern the whole device and
// leaves those that concern the container writable.
const (
	AutoNone AutoMount = iota
	AutoReadOnly
	AutoMixed
	AutoReadWrite
)

// autoMounts are the variants in lxc.mount.auto. cgroup and cgroup-full mount the same
// tree: the container's own.
var autoMounts = []word[AutoMount]{{"", AutoMixed}, {"mixed", AutoMixed}, {"ro", AutoReadOnly}, {"rw", AutoReadWrite}}

func setAuto(p *parser, v string) error {
	if v == "" {
		p.cfg.Proc, p.cfg.Sys, p.cfg.Cgroup = AutoNone, AutoNone, AutoNone
	}
	for _, w := range strings.Fields(v) {
		name, variant, _ := strings.Cut(w, ":")
		variant, _, _ = strings.Cut(variant, ":") // cgroup:rw:force
		if variant == "force" {
			variant = ""
		}
		how, ok := find(autoMounts, variant)
		dst := map[string]*AutoMount{"proc": &p.cfg.Proc, "sys": &p.cfg.Sys, "cgroup": &p.cfg.Cgroup,
			"cgroup-full": &p.cfg.Cgroup}[name]
		if dst == nil || !ok {
			return fmt.Errorf("%q is not an automatic mount", clip(w))
		}
		*dst = how
	}
	return nil
}

// Mount is one mount in a container, as lxc.mount.entry describes it.
type Mount struct {
	Source   string
	Target   string // in the container
	Type     string
	Flags    uintptr // MS_* of mount(2), without propagation
	Spread   uintptr // MS_SHARED, MS_SLAVE, ... or 0
	Data     string  // options of the file system
	Create   string  // "dir" or "file": make the target if missing
	Optional bool    // skip it when it cannot be mounted
	Relative bool    // Source is below the container's root
	MakeDir  bool    // origin=mkdir: make Source if missing
	// Below is the directory that symbolic links in Source cannot leave; see [Volumes].
	Below string
}

// String names the mount for messages.
func (m Mount) String() string {
	if m.Flags&unix.MS_BIND != 0 {
		return m.Source + " on " + m.Target
	}
	return m.Type + " on " + m.Target
}

// mountFlag is the effect of a mount option: bits to set, or to clear.
type mountFlag struct {
	set, clear uintptr
}

var mountFlags = []word[mountFlag]{
	{"defaults", mountFlag{}}, {"rw", mountFlag{clear: unix.MS_RDONLY}}, {"ro", mountFlag{set: unix.MS_RDONLY}},
	{"suid", mountFlag{clear: unix.MS_NOSUID}}, {"nosuid", mountFlag{set: unix.MS_NOSUID}},
	{"dev", mountFlag{clear: unix.MS_NODEV}}, {"nodev", mountFlag{set: unix.MS_NODEV}},
	{"exec", mountFlag{clear: unix.MS_NOEXEC}}, {"noexec", mountFlag{set: unix.MS_NOEXEC}},
	{"async", mountFlag{clear: unix.MS_SYNCHRONOUS}}, {"sync", mountFlag{set: unix.MS_SYNCHRONOUS}},
	{"dirsync", mountFlag{set: unix.MS_DIRSYNC}}, {"mand", mountFlag{}}, {"nomand", mountFlag{}},
	{"atime", mountFlag{clear: unix.MS_NOATIME}}, {"noatime", mountFlag{set: unix.MS_NOATIME}},
	{"diratime", mountFlag{clear: unix.MS_NODIRATIME}}, {"nodiratime", mountFlag{set: unix.MS_NODIRATIME}},
	{"relatime", mountFlag{set: unix.MS_RELATIME}}, {"norelatime", mountFlag{clear: unix.MS_RELATIME}},
	{"strictatime", mountFlag{set: unix.MS_STRICTATIME}}, {"nostrictatime", mountFlag{clear: unix.MS_STRICTATIME}},
	{"lazytime", mountFlag{set: unix.MS_LAZYTIME}}, {"remount", mountFlag{set: unix.MS_REMOUNT}},
	{"bind", mountFlag{set: unix.MS_BIND}}, {"rbind", mountFlag{set: unix.MS_BIND | unix.MS_REC}},
}

var spreadFlags = []word[uintptr]{
	{"private", unix.MS_PRIVATE}, {"rprivate", unix.MS_PRIVATE | unix.MS_REC},
	{"slave", unix.MS_SLAVE}, {"rslave", unix.MS_SLAVE | unix.MS_REC},
	{"shared", unix.MS_SHARED}, {"rshared", unix.MS_SHARED | unix.MS_REC},
	{"unbindable", unix.MS_UNBINDABLE}, {"runbindable", unix.MS_UNBINDABLE | unix.MS_REC},
}

func setMount(p *parser, v string) error {
	if v == "" {
		p.cfg.Mounts = nil
		return nil
	}
	m, err := parseMount(v)
	if err == nil {
		p.cfg.Mounts = append(p.cfg.Mounts, m)
	}
	return err
}

// parseMount reads a line of fstab(5); the last two fields may be missing.
func parseMount(v string) (Mount, error) {
	f := strings.FieldsFunc(v, func(r rune) bool { return r == ' ' || r == '\t' })
	if len(f) < 3 || len(f) > 6 {
		return Mount{}, fmt.Errorf("%q has %d fields; expected source, target, type, options, 0, 0", clip(v), len(f))
	}
	m := Mount{Source: octal.Unescape(f[0]), Target: path.Clean("/" + octal.Unescape(f[1])), Type: f[2]}
	if len(f) > 3 {
		if err := m.options(f[3]); err != nil {
			return Mount{}, err
		}
	}
	if m.Target == "/" {
		return Mount{}, errors.New("the target is the container's root")
	}
	if m.Flags&unix.MS_BIND != 0 && !m.Relative && !path.IsAbs(m.Source) {
		return Mount{}, fmt.Errorf("the source %q of a bind mount is not absolute", clip(m.Source))
	}
	return m, nil
}

func (m *Mount) options(field string) error {
	var data []string
	for _, o := range strings.Split(field, ",") {
		if flag, ok := find(mountFlags, o); ok {
			m.Flags = m.Flags&^flag.clear | flag.set
			continue
		}
		if s, ok := find(spreadFlags, o); ok {
			m.Spread = s
			continue
		}
		switch o {
		case "":
		case "optional":
			m.Optional = true
		case "relative":
			m.Relative = true
		case "create=dir", "create=file":
			m.Create = o[len("create="):]
		case "origin=mkdir":
			m.MakeDir = true
		default:
			if strings.HasPrefix(o, "create=") || strings.HasPrefix(o, "origin=") {
				return fmt.Errorf("option %q is not known", clip(o))
			}
			data = append(data, octal.Unescape(o))
		}
	}
	m.Data = strings.Join(data, ",")
	return nil
}

// option returns the value of NAME=value in a mount's data.
func (m Mount) option(name string) string {
	for _, o := range strings.Split(m.Data, ",") {
		if v, ok := strings.CutPrefix(o, name+"="); ok {
			return v
		}
	}
	return ""
}

package manifest

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"sort"
	"strings"

	"github.com/pantavisor/pantavisor/revision/canon"
)

// containers reads every <container>/run.json with what belongs to it.
func (p *parser) containers() {
	for _, key := range p.keys {
		directory, file, ok := strings.Cut(key, "/")
		if !ok || file != "run.json" || directory == "bsp" || directory == "_config" || directory == "_sigs" {
			continue
		}
		n, _ := p.value(key)
		if len(p.sys.Containers) == mostItems {
			n.fail("there are more than %d containers", mostItems)
			continue
		}
		if o, ok := n.object(); ok {
			p.sys.Containers = append(p.sys.Containers, p.container(directory, o))
		}
	}
	p.orphans()
}

func (p *parser) container(directory string, o *object) Container {
	c := Container{
		Name:      directory,
		Group:     p.groupName(o),
		Network:   network(o),
		Logs:      loggers(o),
		Recovery:  recovery(o),
		Timeout:   inherited,
		Drivers:   driverRefs(o),
		Exports:   exports(o),
		DevLog:    o.boolean("dev-log", p.opt.DevLog),
		AutoModFW: autoModFW(o),
		Remount:   remount(o),
		Services:  p.services(directory),
		Overlay:   p.overlay(directory),
		Compat:    declared(o, directory),
	}
	if name := o.need("name"); name != "" && name != directory {
		o.at("name", canon.Value{}).fail("%.80q; it must be the directory's name %q", name, directory)
	}
	if directory == "pantavisor" || directory == "_pv_" {
		o.fail("the name %q belongs to the runtime itself", directory)
	}
	if why := unusable(directory); why != "" {
		o.fail("%.80q cannot be the name of a container: %s", directory, why)
	}
	c.Goal = Goal(o.enum("status_goal", "", "MOUNTED", "STARTED", "READY"))
	c.Restart = Restart(o.enum("restart_policy", "", "system", "container"))
	if _, ok := o.member("timeout"); ok {
		c.Timeout = o.seconds("timeout")
	}
	p.roles(o, &c)
	if s, ok := o.member("storage"); ok {
		c.Storage = p.storage(s)
	}
	c.Requires, c.Wants = requirements(o)
	p.files(o, directory, &c)
	if spec := o.str("#spec"); spec != "" && spec != "service-manifest-run@1" {
		o.note("#spec is %.80q; service-manifest-run@1 is expected", spec)
	}
	o.known("share", "conditions", "exec")
	o.done()
	return c
}

// groupFiles are the names that the kernel has in every control group (cgroup-v2, Core
// Interface Files; cgroup-v1), where the container's own group must go.
var groupFiles = []string{"tasks", "notify_on_release", "release_agent", "cpu.stat", "cpu.stat.local", "cpu.pressure", "io.pressure", "memory.pressure", "irq.pressure"}

// unusable returns why no container of that name can start, "" when one can. The name
// becomes a directory and a control group.
func unusable(name string) string {
	switch {
	case strings.HasPrefix(name, "."):
		return "it begins with a dot"
	case strings.ContainsAny(name, "\n\x00"):
		return "a control group's name has no line break"
	case strings.HasPrefix(name, "cgroup.") || slices.Contains(groupFiles, name):
		return "every control group has a file of that name"
	}
	return ""
}

// files reads what a container mounts. Whether a program must be there is known
// only with the goal, see checkRunnable.
func (p *parser) files(o *object, directory string, c *Container) {
	c.Type = o.enum("type", "", "lxc")
	if n, ok := o.member("config"); ok {
		c.Config = n.str()
		p.hasFile(n, directory, c.Config)
	}
	if n, ok := o.member("root-volume"); ok {
		c.Root = p.artifact(n, directory)
	}
	n, ok := o.member("volumes")
	if !ok {
		return
	}
	for _, e := range n.elems() {
		if a := p.artifact(e, directory); a.File != "" {
			c.Volumes = append(c.Volumes, a)
		}
	}
}

func (p *parser) groupName(o *object) string {
	group, level := o.str("group"), o.str("runlevel")
	if level == "" {
		return group
	}
	n := o.at("runlevel", canon.Value{})
	if group != "" && group != level {
		n.note("%q is ignored, because group is %q", level, group)
		return group
	}
	n.note("runlevel is legacy; group replaces it")
	return level
}

func (p *parser) roles(o *object, c *Container) {
	n, ok := o.member("roles")
	if !ok {
		if p.opt.DefaultRole != "" && p.opt.DefaultRole != roleNobody {
			c.Roles = []string{p.opt.DefaultRole}
			o.note("without roles the container gets the role %s, as this device is configured", p.opt.DefaultRole)
		} else {
			o.note("without roles the container gets none")
		}
	} else {
		c.Roles = n.strings()
	}
	for _, r := range c.Roles {
		c.Mgmt = c.Mgmt || r == RoleMgmt
		if r != RoleMgmt && r != roleNobody {
			o.at("roles", canon.Value{}).note("role %.80q is unknown; known are mgmt and nobody", r)
		}
	}
}

func autoModFW(o *object) bool {
	n, ok := o.member("automodfw")
	if !ok {
		return true
	}
	if b, ok := n.v.Bool(); ok {
		return b
	}
	return n.str() != "no"
}

// exports reads the directories that the container shows to the host.
func exports(o *object) []string {
	n, ok := o.member("exports")
	if !ok {
		return nil
	}
	for _, e := range n.elems() {
		e.placeInside()
	}
	return n.strings()
}

// placeInside checks that a text names a place below a container's root; an empty
// one or another type is not its concern.
func (n node) placeInside() {
	if text, _ := n.v.Text(); strings.Trim(text, "/") != "" {
		n.cleanPath(strings.TrimPrefix(text, "/"))
	}
}

func driverRefs(o *object) DriverRefs {
	n, ok := o.member("drivers")
	if !ok {
		return DriverRefs{}
	}
	d, ok := n.object()
	if !ok {
		return DriverRefs{}
	}
	refs := DriverRefs{Required: d.strings("required"), Optional: d.strings("optional"), Manual: d.strings("manual")}
	d.done()
	return refs
}

// network reads the member network. Its older form is a list of interfaces with
// the same members, of which the first counts.
func network(parent *object) *Network {
	n, ok := parent.member("network")
	if !ok {
		return nil
	}
	o, ok := n.object()
	if !ok {
		return nil
	}
	if many, ok := o.member("interfaces"); ok {
		if elems := many.elems(); len(elems) > 0 {
			if first, ok := elems[0].object(); ok {
				defer o.done()
				o = first
			}
		}
	}
	net := &Network{Pool: o.str("pool"), Hostname: o.str("hostname"), IP: o.str("ip"), MAC: o.str("mac"), Mode: o.str("mode")}
	switch {
	case net.Mode == "" && net.Pool != "":
		net.Mode = "pool"
	case net.Mode != "host" && net.Mode != "pool":
		net.Mode = "none"
	}
	if net.IP != "" {
		if _, err := netip.ParseAddr(net.IP); err != nil {
			o.at("ip", canon.Value{}).fail("%.80q is not an address", net.IP)
		}
	}
	if _, err := parseMAC(net.MAC); net.MAC != "" && err != nil {
		o.at("mac", canon.Value{}).fail("%.80q; six bytes such as 02:00:0a:00:03:02 are expected", net.MAC)
	}
	o.known("name", "type")
	o.done()
	return net
}

// parseMAC reads six bytes in hexadecimal, with colons between.
func parseMAC(text string) ([]byte, error) {
	if len(text) != 17 {
		return nil, hex.ErrLength
	}
	return hex.DecodeString(text[0:2] + text[3:5] + text[6:8] + text[9:11] + text[12:14] + text[15:17])
}

func loggers(parent *object) []Logger {
	n, ok := parent.member("logs")
	if !ok {
		return nil
	}
	var out []Logger
	for _, e := range n.elems() {
		if o, ok := e.object(); ok {
			out = append(out, logger(o))
		}
	}
	return out
}

func logger(o *object) Logger {
	l := Logger{Name: o.str("name"), MaxSize: o.number("maxsize", 1<<62), Truncate: o.boolean("truncate", false)}
	for _, kind := range []string{"file", "lxc", "console"} {
		n, ok := o.member(kind)
		if !ok {
			continue
		}
		if l.Kind != "" {
			n.fail("only one of file, lxc and console is allowed")
		}
		l.Kind = kind
		if text := n.str(); kind == "file" {
			l.File = text
			n.cleanPath(strings.TrimPrefix(text, "/"))
		}
	}
	if l.Kind == "" {
		o.fail("one of file, lxc and console is expected")
	}
	o.done()
	return l
}

func requirements(parent *object) (required, optional []Requirement) {
	n, ok := parent.member("services")
	if !ok {
		return nil, nil
	}
	o, ok := n.object()
	if !ok {
		return nil, nil
	}
	required, optional = requirementList(o, "required"), requirementList(o, "optional")
	o.done()
	return required, optional
}

func requirementList(parent *object, name string) []Requirement {
	n, ok := parent.member(name)
	if !ok {
		return nil
	}
	var out []Requirement
	for _, e := range n.elems() {
		if text, ok := e.v.Text(); ok {
			out = append(out, Requirement{Name: text})
			continue
		}
		if o, ok := e.object(); ok {
			if target, ok := o.member("target"); ok {
				target.placeInside()
			}
			out = append(out, Requirement{o.need("name"), o.str("type"), o.str("role"), o.str("interface"), o.str("target")})
			o.done()
		}
	}
	return out
}

// services reads <container>/services.json: an object with the array services, or
// that array alone.
func (p *parser) services(directory string) []Service {
	n, ok := p.value(directory + "/services.json")
	if !ok {
		return nil
	}
	if n.v.Kind() == canon.Array {
		return serviceList(n)
	}
	o, ok := n.object()
	if !ok {
		return nil
	}
	if spec := o.str("#spec"); spec != "" && spec != "service-manifest-xconnect@1" {
		o.note("#spec is %.80q; service-manifest-xconnect@1 is expected", spec)
	}
	defer o.done()
	if list, ok := o.member("services"); ok {
		return serviceList(list)
	}
	return nil
}

func serviceList(n node) []Service {
	var out []Service
	for _, e := range n.elems() {
		o, ok := e.object()
		if !ok {
			continue
		}
		if socket, ok := o.member("socket"); ok {
			socket.placeInside()
		}
		out = append(out, Service{
			Name: o.need("name"), Type: o.str("type"), Socket: o.str("socket"),
			Bus: o.str("bus"), Role: o.str("role"), Owns: words(o, "owns"), Allow: words(o, "allow"),
		})
		o.done()
	}
	return out
}

// words reads a string or an array of strings.
func words(o *object, name string) []string {
	n, ok := o.member(name)
	if !ok {
		return nil
	}
	if text, ok := n.v.Text(); ok {
		return []string{text}
	}
	return n.strings()
}

// orphans notes what belongs to no container, and services that nobody offers: the
// mesh decides about these when the containers run.
func (p *parser) orphans() {
	said := map[string]bool{}
	for _, c := range p.sys.Containers {
		said[c.Name] = true // needs no word
	}
	for _, key := range p.keys {
		directory, file, _ := strings.Cut(key, "/")
		if directory == "_config" {
			directory, _, _ = strings.Cut(file, "/")
		} else if file != "services.json" {
			continue
		}
		if !said[directory] {
			said[directory] = true
			p.at(key).note("ignored, because there is no container %q", directory)
		}
	}
	offered := map[string]bool{}
	for _, c := range p.sys.Containers {
		for _, s := range c.Services {
			offered[s.Name] = true
		}
	}
	for _, c := range p.sys.Containers {
		for _, r := range c.Requires {
			if !offered[r.Name] {
				p.at(c.Name+"/run.json").note("no container offers the required service %.80q", r.Name)
			}
		}
	}
}

// overlay returns the paths below _config/<container>/.
func (p *parser) overlay(directory string) []string {
	var out []string
	prefix := "_config/" + directory + "/"
	for _, key := range p.keys[sort.SearchStrings(p.keys, prefix):] {
		rest, ok := strings.CutPrefix(key, prefix)
		if !ok {
			break
		}
		out = append(out, rest)
	}
	return out
}

// assignGroups gives every container its group and what it inherits from it, and
// sorts the containers in the order of starting.
func (p *parser) assignGroups() {
	p.chooseGroups()
	order := map[string]int{}
	for i, g := range p.sys.Groups {
		order[g.Name] = i
	}
	for i := range p.sys.Containers {
		c := &p.sys.Containers[i]
		n := p.at(c.Name + "/run.json")
		g, ok := p.sys.Group(c.Group)
		if !ok {
			n.path = "group"
			n.fail("there is no group %.80q; groups are %s", c.Group, p.groupNames())
			continue
		}
		inherit(c, g)
		checkRunnable(n, c)
	}
	sort.SliceStable(p.sys.Containers, func(i, j int) bool {
		return order[p.sys.Containers[i].Group] < order[p.sys.Containers[j].Group]
	})
}

// chooseGroups: without groups of its own the state's first unassigned container
// is the root one unless somebody else is, the others are platforms. With own
// groups the last one takes whoever names none; existing revisions rely on it.
func (p *parser) chooseGroups() {
	if len(p.sys.Groups) == 0 {
		return
	}
	rootTaken := false
	for _, c := range p.sys.Containers {
		rootTaken = rootTaken || c.Group == "root"
	}
	for i := range p.sys.Containers {
		c := &p.sys.Containers[i]
		if c.Group != "" {
			continue
		}
		switch {
		case !p.sys.DefaultGroups:
			c.Group = p.sys.Groups[len(p.sys.Groups)-1].Name
			p.at(c.Name+"/run.json").note("names no group; the last one, %q, takes it", c.Group)
		case !rootTaken:
			c.Group, rootTaken = "root", true
		default:
			c.Group = "platform"
		}
	}
}

func (p *parser) groupNames() string {
	const most = 20
	var names []string
	for i, g := range p.sys.Groups {
		if i == most {
			names = append(names, "and more")
			break
		}
		names = append(names, clip(g.Name, mostName))
	}
	return strings.Join(names, ", ")
}

// inherited is the timeout of a container that has the group's.
const inherited = -1

func inherit(c *Container, g *Group) {
	if c.Timeout == inherited {
		c.Timeout = g.Timeout
	}
	if c.Goal == "" {
		c.Goal = g.Goal
	}
	if c.Restart == "" {
		c.Restart = g.Restart
	}
	// All or nothing: an object of its own counts as a whole, also one that says no.
	if c.Recovery == nil && g.Recovery != nil {
		c.Recovery, c.RecoveryInherited = g.Recovery, true
	}
}

// checkRunnable: what has to run needs a program to run it and a root.
func checkRunnable(n node, c *Container) {
	if c.Goal == Mounted {
		return
	}
	for _, f := range []struct{ member, value, want string }{
		{"type", c.Type, "lxc"}, {"config", c.Config, "the LXC configuration's file name"}, {"root-volume", c.Root.File, "a file name"},
	} {
		if f.value == "" {
			n.path = f.member
			n.fail("missing; %s is expected in a container with the goal %s", f.want, c.Goal)
		}
	}
}

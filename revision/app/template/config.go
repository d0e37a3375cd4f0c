package template

import (
	"strings"

	"github.com/pantavisor/pantavisor/revision/canon"
)

// conf is an LXC configuration under construction.
type conf struct {
	*renderer
	out strings.Builder
}

// config builds lxc.container.conf. The order of its lines is fixed, because the files
// of unchanged applications must not change.
func (r *renderer) config() []byte {
	c := &conf{renderer: r}
	c.line("lxc.tty.max", r.textOr("LXC_TTY_MAX", "8"))
	c.line("lxc.pty.max", r.textOr("LXC_PTY_MAX", "1024"))
	if r.has("PV_DEBUG_MODE") {
		c.line("lxc.log.file", "/pv/logs/"+r.name+".log")
	}
	c.cgroups()
	c.line("lxc.rootfs.path", r.rootPath())
	c.program()
	c.namespaces()
	c.fixedMounts()
	c.volumeMounts()
	c.capabilities()
	c.net()
	c.extra()
	c.imports()
	return []byte(c.out.String())
}

// line writes "key = value". A line break in a value (some come from the container
// image) would add other settings.
func (c *conf) line(key, value string) {
	if strings.ContainsAny(value, "\n\r\x00") {
		c.fail("%s: the value %.80q contains a line break", key, value)
		return
	}
	c.out.WriteString(key + " = " + value + "\n")
}

func (c *conf) mount(fields ...string) {
	c.line("lxc.mount.entry", strings.Join(fields, " ")+" 0 0")
}

func (c *conf) cgroups() {
	if white := c.list("PVR_LXC_CGROUP_DEVICES_WHITE"); white != nil {
		c.line("lxc.cgroup.devices.deny", "a")
		for _, item := range white {
			c.line("lxc.cgroup.devices.allow", item)
		}
	} else {
		c.line("lxc.cgroup.devices.allow", "a")
	}
	for _, item := range c.list("PVR_LXC_CGROUP_V1") {
		c.raw("lxc.cgroup." + item)
	}
}

// raw writes a line as it is.
func (c *conf) raw(line string) {
	if strings.ContainsAny(line, "\n\r\x00") {
		c.fail("the line %.80q contains a line break", line)
		return
	}
	c.out.WriteString(line + "\n")
}

func (r *renderer) rootPath() string {
	base := r.srcText("base")
	if base == "" {
		base = r.name
	}
	path := "overlayfs:"
	if r.patched() {
		path += "/volumes/" + r.name + "/root.ovl.squashfs:"
	}
	return path + "/volumes/" + base + "/root.squashfs:/volumes/" + r.name + "/lxc-overlay/upper"
}

func (c *conf) program() {
	if cmd := strings.TrimPrefix(c.command(), " "); cmd == "" {
		c.raw("lxc.init.cmd =")
	} else {
		c.line("lxc.init.cmd", cmd)
	}
	if dir, _ := c.docker.Get("WorkingDir"); isSet(dir) {
		c.line("lxc.init.cwd", c.scalar("docker_config.WorkingDir", dir))
	}
	env, _ := c.docker.Get("Env")
	for _, e := range append(c.texts("docker_config.Env", env), c.list("PV_LXC_EXTRA_ENV")...) {
		c.line("lxc.environment", e)
	}
}

// command joins entry point and command in the form of existing applications: the first
// word is bare, the others are in quotes, and there is no space between the elements of
// a command after an entry point.
func (r *renderer) command() string {
	entry, _ := r.docker.Get("Entrypoint")
	cmd, _ := r.docker.Get("Cmd")
	switch {
	case isSet(entry) && entry.Kind() == canon.String:
		return r.scalar("docker_config.Entrypoint", entry)
	case isSet(entry):
		return firstBare(r.texts("docker_config.Entrypoint", entry)) + r.behindEntry(cmd)
	case isSet(cmd) && cmd.Kind() == canon.String:
		return r.scalar("docker_config.Cmd", cmd)
	case isSet(cmd):
		return firstBare(r.texts("docker_config.Cmd", cmd))
	}
	return "/sbin/init"
}

func firstBare(words []string) string {
	if len(words) == 0 {
		return ""
	}
	line := words[0]
	for _, w := range words[1:] {
		line += ` "` + w + `"`
	}
	return line
}

func (r *renderer) behindEntry(cmd canon.Value) string {
	if !isSet(cmd) {
		return ""
	}
	words := []string{}
	if cmd.Kind() == canon.String {
		words = append(words, r.scalar("docker_config.Cmd", cmd))
	} else {
		words = r.texts("docker_config.Cmd", cmd)
	}
	line := " "
	for _, w := range words {
		line += `"` + w + `"`
	}
	return line
}

func (c *conf) namespaces() {
	keep := "user  net  ipc"
	if kind := c.text("PV_LXC_NETWORK_TYPE", ""); kind != "" && kind != "host" {
		keep = "user  ipc"
	}
	c.line("lxc.namespace.keep", c.text("PV_LXC_NAMESPACE_KEEP", keep))
	if c.has("PV_LXC_DISABLE_CONSOLE") {
		c.line("lxc.console.path", "none")
	}
	auto := []string{c.textOr("LXC_MOUNT_AUTO_PROC", "proc"), c.textOr("LXC_MOUNT_AUTO_SYS", "sys:rw"), c.textOr("LXC_MOUNT_AUTO_GROUP", "cgroup")}
	c.line("lxc.mount.auto", strings.Join(auto, "  "))
	if c.has("PV_DISABLE_AUTODEV") {
		c.line("lxc.autodev", "0")
	}
}

func (c *conf) fixedMounts() {
	for _, m := range []struct{ arg, source, target string }{
		{"PV_SECURITY_FULLDEV", "/dev/", "dev"}, {"PV_SECURITY_WITH_HOST", "/", "host"},
		{"PV_SECURITY_WITH_HOSTPROC", "/proc/", "host/proc"}, {"PV_SECURITY_WITH_STORAGE", "/storage", "storage"},
	} {
		if c.has(m.arg) {
			c.mount(m.source, m.target, "none", "bind,rw,create=dir")
		}
	}
	if !c.has("PV_RESOLV_CONF_DISABLE") {
		c.mount("/etc/resolv.conf", c.text("PV_RESOLV_CONF_PATH", "etc/resolv.conf"), "none", "bind,rw,create=file")
	}
	if !c.has("PV_RUN_TMPFS_DISABLE") {
		c.mount("tmpfs", c.text("PV_RUN_TMPFS_PATH", "run"), "tmpfs", "rw,nodev,relatime,create=dir,mode=755")
	}
}

func (c *conf) volumeMounts() {
	for _, v := range c.volumes {
		target := strings.TrimPrefix(v.path, "/")
		kept := "/volumes/" + c.name + "/" + v.storage()
		switch {
		case v.scheme == "" && v.path == "lxc-overlay":
		case v.scheme == "":
			c.mount(kept, target, "none", "bind,rw,create=dir")
		case v.scheme == "ovl":
			lower := "/volumes/" + c.name + "/root.squashfs/" + target
			c.mount(kept, target, "overlay", "lowerdir="+lower+",upperdir="+kept+"/upper,workdir="+kept+"/work,create=dir")
		}
	}
}

func (c *conf) capabilities() {
	for _, set := range []struct{ arg, key string }{{"PV_LXC_CAP_DROP", "lxc.cap.drop"}, {"PV_LXC_CAP_KEEP", "lxc.cap.keep"}} {
		for _, name := range c.list(set.arg) {
			c.line(set.key, strings.ToLower(name))
		}
	}
}

func (c *conf) net() {
	switch c.text("PV_LXC_NETWORK_TYPE", "") {
	case "empty":
		c.line("lxc.net.0.type", "empty")
	case "phys":
		c.line("lxc.net.0.type", "phys")
		c.raw("lxc.net.0.link =" + c.text("PV_LXC_NETWORK_LINK", ""))
	case "veth":
		c.line("lxc.net.0.type", "veth")
		c.line("lxc.net.0.link", "lxcbr0")
		c.line("lxc.net.0.flags", "up")
		if address := c.text("PV_LXC_NETWORK_IPV4_ADDRESS", ""); address != "" {
			c.line("lxc.net.0.ipv4.address", address)
			c.line("lxc.net.0.ipv4.gateway", c.text("PV_LXC_NETWORK_IPV4_GATEWAY", "auto"))
		}
	}
}

// extra writes the lines that the author of the application wants added.
func (c *conf) extra() {
	if text := c.text("PV_LXC_EXTRA_CONF", ""); text != "" {
		c.out.WriteString(text + "\n")
	}
}

func (c *conf) imports() {
	for _, w := range c.words("PV_FILEIMPORTS") {
		source, target := pair(w)
		c.mount("/exports/"+source, target, "none", "bind,rw,create=file")
	}
	for _, w := range c.words("PV_IMPORT_CONFIGVOLUMES") {
		volume, target := pair(w)
		c.mount("/volumes/"+volume+"/"+c.name, target, "none", "bind,rw,create=dir,optional,noexec")
	}
	for _, w := range c.words("PV_VOLUME_MOUNTS") {
		volume, target := pair(w)
		c.mount("/volumes/"+c.name+"/"+volume, target, "none", "bind,rw,create=dir")
	}
	for _, w := range c.list("PV_VOLUME_IMPORTS") {
		c.volumeImport(w)
	}
}

func pair(word string) (source, target string) {
	source, target, _ = strings.Cut(word, ":")
	return source, target
}

// volumeImport reads CONTAINER:[SUB@]PATH:TARGET[:FLAGS].
func (c *conf) volumeImport(word string) {
	fields := strings.SplitN(word, ":", 4)
	if len(fields) < 3 {
		c.fail("args.PV_VOLUME_IMPORTS: %.80q; CONTAINER:[SUB@]PATH:TARGET[:FLAGS] is expected", word)
		return
	}
	flags := "rw"
	if len(fields) == 4 && fields[3] != "" {
		flags = fields[3]
	}
	path, sub := fields[1], ""
	if before, after, ok := strings.Cut(path, "@"); ok {
		path, sub = after, "/"+before
	}
	source := "/volumes/" + fields[0] + "/docker-" + dashes(path) + sub
	c.mount(source, strings.TrimPrefix(fields[2], "/"), "none", "bind,"+flags+",create=dir")
}

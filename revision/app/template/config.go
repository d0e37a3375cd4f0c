package template

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/lxc"
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

// exact writes a value that must come through exactly: with our own key if LXC's cannot
// hold it. where names it for the user.
func (c *conf) exact(where, key, own, value string) {
	switch {
	case strings.IndexByte(value, 0) >= 0:
		c.fail("%s: the value %.80q contains a NUL byte, which no program can get", where, value)
	case lxc.Holds(value):
		c.line(key, value)
	default:
		c.line(own, string(canon.Str(value).Encode()))
	}
}

// mount writes a mount whose fields may have escapes of their author.
func (c *conf) mount(fields ...string) {
	for i, f := range fields {
		fields[i] = lxc.EscapeBlanks(f)
	}
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
	c.command()
	if dir, _ := c.docker.Get("WorkingDir"); isSet(dir) {
		text := c.scalar("docker_config.WorkingDir", dir)
		if !strings.HasPrefix(text, "/") {
			c.fail("docker_config.WorkingDir: %.80q is not an absolute path", text)
		}
		c.exact("docker_config.WorkingDir", "lxc.init.cwd", lxc.KeyDirectory, text)
	}
	c.account()
	c.stopSignal()
	env, _ := c.docker.Get("Env")
	c.environment("docker_config.Env", c.texts("docker_config.Env", env))
	c.environment("args.PV_LXC_EXTRA_ENV", c.list("PV_LXC_EXTRA_ENV"))
}

func (c *conf) environment(where string, list []string) {
	for i, e := range list {
		at := fmt.Sprintf("%s[%d]", where, i)
		if strings.IndexByte(e, '=') <= 0 {
			c.fail("%s: %.80q; NAME=VALUE is expected", at, e)
			continue
		}
		c.exact(at, "lxc.environment", lxc.KeyEnvironment, e)
	}
}

// command writes the entry point and the command. One that is a string is a line of
// words; of lists each element is a word.
func (c *conf) command() {
	entry, _ := c.docker.Get("Entrypoint")
	cmd, _ := c.docker.Get("Cmd")
	switch {
	case isSet(entry) && entry.Kind() == canon.String:
		c.commandLine("docker_config.Entrypoint", entry)
	case isSet(entry):
		c.argv(c.texts("docker_config.Entrypoint", entry), c.behindEntry(cmd))
	case isSet(cmd) && cmd.Kind() == canon.String:
		c.commandLine("docker_config.Cmd", cmd)
	case isSet(cmd):
		c.argv(nil, c.texts("docker_config.Cmd", cmd))
	default:
		c.line("lxc.init.cmd", "/sbin/init")
	}
}

func (c *conf) commandLine(where string, v canon.Value) {
	text := strings.TrimPrefix(c.scalar(where, v), " ")
	if _, err := lxc.Split(text); err != nil {
		c.fail("%s: %.80q: %v; a list of words is expected", where, text, err)
	}
	if text == "" {
		c.raw("lxc.init.cmd =")
		return
	}
	c.line("lxc.init.cmd", text)
}

// argv writes a command in the form of existing applications where that is read as the
// same words.
func (c *conf) argv(entry, cmd []string) {
	all := slices.Concat(entry, cmd)
	for _, w := range all {
		if strings.IndexByte(w, 0) >= 0 {
			c.fail("docker_config: the word %.80q of the command contains a NUL byte, which no program can get", w)
			return
		}
	}
	line, ok := lxc.Join(entry, cmd)
	switch {
	case len(all) > 1 && all[0] == "":
		c.fail("docker_config: the command begins with an empty word, which is not a program: %.200q", all)
	case len(all) == 1 && all[0] == "":
		c.raw("lxc.init.cmd =") // the default program, as for existing applications
	case ok:
		c.line("lxc.init.cmd", line)
	default:
		var list []canon.Value
		for _, w := range all {
			list = append(list, canon.Str(w))
		}
		c.line(lxc.KeyCommand, string(canon.List(list...).Encode()))
	}
}

func (c *conf) behindEntry(cmd canon.Value) []string {
	switch {
	case !isSet(cmd):
		return nil
	case cmd.Kind() == canon.String:
		return []string{c.scalar("docker_config.Cmd", cmd)}
	}
	return c.texts("docker_config.Cmd", cmd)
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
		target := lxc.Escape(strings.TrimPrefix(v.path, "/"))
		kept := "/volumes/" + c.name + "/" + v.storage()
		switch {
		case v.scheme == "" && v.path == "lxc-overlay":
		case path.Clean("/"+v.path) == "/":
			c.fail("volume %q: the root of a container cannot be a volume; name the directories below it", v.path+"/")
		case v.scheme == "":
			c.mount(lxc.Escape(kept), target, "none", "bind,rw,create=dir")
		case v.scheme == "ovl" && strings.ContainsAny(v.path, `,:\`):
			c.fail("volume ovl:%s: the kernel's overlay takes no comma, colon or backslash", v.path)
		case v.scheme == "ovl":
			lower, kept := "/volumes/"+c.name+"/root.squashfs/"+target, lxc.Escape(kept)
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

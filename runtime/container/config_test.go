package container

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/oracle"
)

func parse(t *testing.T, text string) (*Config, []Note) {
	t.Helper()
	c, notes, err := Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return c, notes
}

func TestParseExport(t *testing.T) {
	c, notes := parse(t, `
# a container as pvr writes it
lxc.tty.max = 8
lxc.rootfs.path = overlayfs:/volumes/c/root.ovl.squashfs:/volumes/b/root.squashfs:/volumes/c/lxc-overlay/upper
lxc.init.cmd = /e "-x" "c1""c 2""c3"
lxc.init.cwd = /work
lxc.environment = A=b c
lxc.environment =EMPTY=
lxc.namespace.keep = user  net  ipc
lxc.mount.auto = proc:mixed  sys:ro  cgroup-full:rw
lxc.mount.entry = /storage my\040dir none bind,rw,nodev,create=dir,optional 0 0
lxc.cgroup.memory.limit_in_bytes = 1G
lxc.cgroup.cpu.shares = 512
lxc.cap.drop = sys_admin
lxc.signal.halt = SIGRTMIN+3
lxc.prlimit.nofile = 100:200
lxc.sysctl.net.core.somaxconn = 128
lxc.net.0.type = veth
lxc.net.0.link =lxcbr0
lxc.console.path = none
lxc.autodev = 0
lxc.b = 1
lxc.b = 2
`)
	want := &Config{
		Root: Root{Lowers: []string{"/volumes/c/root.ovl.squashfs", "/volumes/b/root.squashfs"},
			Upper: "/volumes/c/lxc-overlay/upper", Work: "/volumes/c/lxc-overlay/olwork"},
		Init: []string{"/e", "-x", "c1", "c 2", "c3"}, Cwd: "/work", Env: []string{"A=b c", "EMPTY="},
		Namespaces: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP,
		Proc:       AutoMixed, Sys: AutoReadOnly, Cgroup: AutoReadWrite,
		Mounts: []Mount{{Source: "/storage", Target: "/my dir", Type: "none", Flags: unix.MS_BIND | unix.MS_NODEV,
			Create: "dir", Optional: true}},
		CapDrop: []string{"sys_admin"}, HaltSignal: 37, PtyMax: 1024, TtyMax: 8,
		Limits: []Setting{{"nofile", "100:200"}}, Sysctls: []Setting{{"net/core/somaxconn", "128"}},
		Cgroup1: []Setting{{"memory.limit_in_bytes", "1G"}, {"cpu.shares", "512"}},
		Nets:    []Net{{Type: "veth", Settings: []Setting{{"link", "lxcbr0"}}}},
	}
	if d := cmp.Diff(want, c, cmp.AllowUnexported(Config{})); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if d := cmp.Diff([]Note{{"lxc.b", "unknown key, ignored"}}, notes); d != "" {
		t.Errorf("notes (-want +got)\n%s", d)
	}
}

// TestParseRecorded reads every configuration that the client is known to write.
func TestParseRecorded(t *testing.T) {
	files, _ := filepath.Glob(oracle.Recordings(t, "golden/pvr/template") + "/*/lxc.container.conf")
	for _, f := range files {
		c, notes, err := ParseFile(f)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, n := range notes {
			if n.Key != "lxc.a" && n.Key != "lxc.b" { // made-up keys of one recording
				t.Errorf("%s: %s", f, n)
			}
		}
		if len(c.Root.Lowers) == 0 {
			t.Errorf("%s: no root", f)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for line, want := range map[string]string{
		"lxc.init.cwd = rel":                                         "is not absolute",
		"lxc.init.cmd = /a \"b":                                      "missing closing quote",
		"nonsense":                                                   "is not an assignment",
		"lxc.rootfs.path = overlayfs:/only":                          "needs a lower and an upper layer",
		"lxc.rootfs.path = overlayfs:a:/b":                           "is not absolute",
		"lxc.rootfs.path = zfs:x":                                    "is neither a path",
		"lxc.namespace.keep = mnt":                                   "the mount namespace cannot be kept",
		"lxc.namespace.keep = foo":                                   "is not a namespace",
		"lxc.namespace.clone = user":                                 "not supported",
		"lxc.mount.auto = proc:what":                                 "is not an automatic mount",
		"lxc.mount.entry = a b":                                      "has 2 fields",
		"lxc.mount.entry = /a / none bind 0 0":                       "the container's root",
		"lxc.mount.entry = a b none bind 0 0":                        "is not absolute",
		"lxc.mount.entry = /a b none create=x 0 0":                   "is not known",
		"lxc.cap.keep = fly":                                         "is not a capability",
		"lxc.prlimit.nofile = 9:1":                                   "above the hard limit",
		"lxc.prlimit.what = 1":                                       "no such limit",
		"lxc.sysctl.kernel.core_pattern = |/x":                       "lxc.sysctl.kernel.core_pattern: it is the device's",
		"lxc.cgroup2.cgroup.procs = 1":                               "lxc.cgroup2.cgroup.procs: it is not a resource",
		"lxc.cgroup2.cgroup.type = threaded":                         "it is not a resource",
		"lxc.cgroup2.cgroup.kill = 1":                                "it is not a resource",
		"lxc.cgroup.tasks = 1":                                       "lxc.cgroup.tasks: it is not a resource",
		"lxc.cgroup.notify_on_release = 1":                           "it is not a resource",
		"lxc.sysctl.vm.swappiness = 1":                               "it is the device's",
		"lxc.sysctl.kernel.hostname.x = 1":                           "it is the device's",
		"lxc.net.0.type = ipvlan":                                    `lxc.net.0.type: "ipvlan" is not supported`,
		"lxc.rootfs.options = ro,idmap=container":                    `lxc.rootfs.options: "idmap=container" is not supported`,
		"lxc.rootfs.options = ro\nlxc.rootfs.path = overlayfs:/a:/b": "an overlay cannot be ro",
		"lxc.sysctl.net/../x = 1":                                    "not a valid name of a kernel parameter",
		"lxc.cgroup2.../x = 1":                                       "not a valid name of a setting",
		"lxc.net.x.type = veth":                                      "lxc.net.NUMBER.NAME",
		"lxc.signal.halt = SIGNOT":                                   "is not a signal",
		"lxc.signal.halt = SIGRTMIN+99":                              "is not a signal",
		"lxc.init.uid = -1":                                          "is not a user",
		"lxc.environment = PATH":                                     "write NAME=value",
		"lxc.autodev = 2":                                            "neither 0 nor 1",
		"lxc.idmap = u 0 1 2":                                        "user namespaces",
		"lxc.namespace.share.net = other":                            "not supported",
		"lxc.uts.name = a/b":                                         "is not a valid host name",
		"lxc.init.cwd = /" + strings.Repeat("x", 70<<10):             "too long",
		strings.Repeat("#\n", maxLines+1):                            "more than 4096 lines",
	} {
		_, _, err := Parse(strings.NewReader(line))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %q", line, err, want)
		}
	}
}

func TestParseCollectsAllProblems(t *testing.T) {
	_, _, err := Parse(strings.NewReader("lxc.autodev = 5\nlxc.cap.keep = fly\n"))
	if err == nil || !strings.Contains(err.Error(), "line 1") || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("%v", err)
	}
}

func TestChooseHalt(t *testing.T) {
	bit := func(sigs ...unix.Signal) (m uint64) {
		for _, s := range sigs {
			m |= 1 << (s - 1)
		}
		return m
	}
	for _, c := range []struct {
		comm   string
		caught uint64
		want   unix.Signal
	}{
		{"systemd", bit(unix.SIGTERM, 37), 37},
		{"app", bit(unix.SIGTERM, unix.SIGPWR), unix.SIGTERM},
		{"app", bit(unix.SIGPWR), unix.SIGPWR},
		{"sh", 0, 0},
		{stageName, bit(unix.SIGTERM, unix.SIGPWR), 0}, // execve is not through yet
	} {
		if got := chooseHalt(c.comm, c.caught); got != c.want {
			t.Errorf("%s catching %x is asked with %d, want %d", c.comm, c.caught, got, c.want)
		}
	}
}

func TestCapsDropAddsToDefault(t *testing.T) {
	bit := func(n string) uint64 { b, _ := capBit(n); return b }
	c, _ := parse(t, "lxc.cap.drop = net_raw")
	if caps := c.Caps(); caps&bit("net_raw") != 0 || caps&bit("mac_admin") != 0 || caps&bit("sys_admin") == 0 {
		t.Errorf("dropping net_raw leaves %x", caps)
	}
	c, _ = parse(t, "lxc.cap.drop =\n")
	if caps := c.Caps(); caps != 1<<41-1 {
		t.Errorf("an empty drop list leaves %x", caps)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("lxc.mount.entry = /a\\040b c none bind,rw,create=dir 0 0\nlxc.init.cmd = /x \"a b\"")
	f.Add("lxc.rootfs.path = overlayfs:/a:/b\nlxc.cap.keep = none")
	f.Fuzz(func(t *testing.T, text string) {
		c, _, err := Parse(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, m := range c.Mounts {
			if m.Target == "/" || !filepath.IsAbs(m.Target) || m.Target != filepath.Clean(m.Target) {
				t.Errorf("mount target %q", m.Target)
			}
		}
		for _, s := range c.Sysctls {
			if strings.Contains("/"+s.Key+"/", "/../") {
				t.Errorf("kernel parameter %q", s.Key)
			}
		}
	})
}

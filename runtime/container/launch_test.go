package container

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain runs all tests in a network namespace of their own. It also is the first
// stage of the containers that they start.
func TestMain(m *testing.M) {
	if os.Args[0] == StageArg {
		Init()
	}
	const mark = "CONTAINER_TEST_NETNS"
	if os.Getuid() != 0 || os.Getenv(mark) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0], cmd.Env = os.Args[0], append(os.Environ(), mark+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if err := cmd.Run(); cmd.ProcessState == nil {
		panic(err)
	}
	os.Exit(cmd.ProcessState.ExitCode())
}

// bench is a launcher with a root that holds the guest program.
type bench struct {
	t   testing.TB
	l   *Launcher
	dir string
}

func newBench(t testing.TB) *bench {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("starting containers needs root")
	}
	dir := t.TempDir()
	b := &bench{t: t, dir: dir, l: &Launcher{Stage: filepath.Join(dir, "stage")}}
	for _, d := range []string{"stage", "root/sbin", "root/etc", "root/proc", "root/sys", "root/dev", "root/run", "vol"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	guest(t, filepath.Join(dir, "root/sbin/init"))
	tree, err := FindTree(filepath.Join(dir, "cgroup"))
	if err != nil {
		t.Fatal(err)
	}
	b.l.Tree = tree.Sub("pv-test-" + filepath.Base(filepath.Dir(dir)) + "-" + filepath.Base(dir))
	t.Cleanup(func() {
		if err := b.l.Tree.Remove(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// guest builds the guest program.
func guest(t testing.TB, to string) {
	t.Helper()
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", to, "./testdata/guest")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the guest: %v\n%s", err, out)
	}
}

// staticStages makes containers start through a statically linked program.
func (b *bench) staticStages() {
	b.t.Helper()
	binary, was := filepath.Join(b.dir, "stages"), self
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary, "./testdata/stage")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.t.Fatalf("building the stages: %v\n%s", err, out)
	}
	self = func() (string, error) { return binary, nil }
	b.t.Cleanup(func() { self = was })
}

// config parses lines below the usual ones of an export.
func (b *bench) config(lines ...string) *Config {
	b.t.Helper()
	text := []string{
		"lxc.tty.max = 8", "lxc.pty.max = 1024", "lxc.cgroup.devices.allow = a",
		"lxc.rootfs.path = overlayfs:" + b.dir + "/root:" + b.dir + "/vol/upper",
		"lxc.namespace.keep = user  net  ipc", "lxc.mount.auto = proc  sys:rw  cgroup",
		"lxc.mount.entry = tmpfs run tmpfs rw,nodev,relatime,create=dir,mode=755 0 0",
	}
	c, notes, err := Parse(strings.NewReader(strings.Join(append(text, lines...), "\n")))
	if err != nil {
		b.t.Fatal(err)
	}
	if len(notes) > 0 {
		b.t.Fatalf("notes on a configuration of known keys: %v", notes)
	}
	return c
}

func (b *bench) start(name string, lines ...string) *Process {
	b.t.Helper()
	p, err := b.l.Start(Start{Name: name, Kind: "pv-app", Config: b.config(lines...)})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { b.end(p) })
	return p
}

func (b *bench) end(p *Process) {
	p.Kill()
	<-p.Done()
	if p.Console != nil {
		_ = p.Console.Close()
	}
	if _, err := p.Exit(); err != nil {
		b.t.Error(err)
	}
}

// probe runs a container that reports on itself.
func (b *bench) probe(tries []string, lines ...string) map[string]any {
	b.t.Helper()
	words := append([]string{"lxc.init.cmd = /sbin/init probe"}, tries...)
	p := b.start("probe", append(lines, strings.Join(words, " "))...)
	line := firstLine(b.t, p)
	var r map[string]any
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		b.t.Fatalf("%v in %q", err, line)
	}
	<-p.Done()
	return r
}

func firstLine(t testing.TB, p *Process) string {
	t.Helper()
	line, err := bufio.NewReaderSize(p.Console, 1<<20).ReadString('\n')
	if err != nil {
		t.Fatalf("reading the console: %v after %q", err, line)
	}
	return strings.TrimSpace(line)
}

func tried(r map[string]any, what string) string {
	s, _ := r["Tried"].(map[string]any)[what].(string)
	return s
}

func TestContainerSeesOnlyItself(t *testing.T) {
	b := newBench(t)
	if err := os.WriteFile(filepath.Join(b.dir, "secret"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	tries := []string{"write:/proc/sys/kernel/hostname", "write:/proc/sys/vm/swappiness", "list:" + b.dir,
		"write:/etc/mine", "kill:2", "write:/sys/kernel/mm/transparent_hugepage/enabled"}
	for _, p := range procMasked {
		tries = append(tries, "read:"+p)
	}
	r := b.probe(tries,
		"lxc.init.cwd = /etc", "lxc.environment = A=1", "lxc.mount.auto =", "lxc.mount.auto = proc sys:ro cgroup")
	if r["PID"] != 1.0 || r["Hostname"] != "probe" || r["Cwd"] != "/etc" || r["Cgroup"] != "/" {
		t.Errorf("pid %v, host name %v, directory %v, cgroup %v; want 1, probe, /etc, /", r["PID"], r["Hostname"], r["Cwd"], r["Cgroup"])
	}
	env, _ := json.Marshal(r["Env"])
	for _, want := range []string{`"A=1"`, `"container=pv-app"`, `"PATH=/usr/local/sbin`} {
		if !strings.Contains(string(env), want) {
			t.Errorf("environment %s lacks %s", env, want)
		}
	}
	if len(r["Env"].([]any)) != 4 { // with container_ttys
		t.Errorf("environment %s: the runtime's own leaked in", env)
	}
	for _, ro := range []string{"write:/proc/sys/kernel/hostname", "write:/proc/sys/vm/swappiness", "write:/sys/kernel/mm/transparent_hugepage/enabled"} {
		if got := tried(r, ro); !strings.Contains(got, "read-only") {
			t.Errorf("%s: %s; want a read-only file system", ro, got)
		}
	}
	for _, p := range procMasked {
		if got := tried(r, "read:"+p); exists(p) && got != "" {
			t.Errorf("%s can be read: %.40q", p, got)
		}
	}
	if got := tried(r, "list:"+b.dir); !strings.HasPrefix(got, "error") {
		t.Errorf("the device's directory is visible: %s", got)
	}
	if got := tried(r, "kill:2"); got == "ok" {
		t.Error("there is a second process in the PID namespace")
	}
	if got := tried(r, "write:/etc/mine"); got != "ok" {
		t.Errorf("writing to the overlay: %s", got)
	}
	if _, err := os.Stat(filepath.Join(b.dir, "vol/upper/etc/mine")); err != nil {
		t.Errorf("the writable layer did not take the file: %v", err)
	}
	if r["Tty"] != "/dev/pts/0" {
		t.Errorf("standard input is %v, want the console", r["Tty"])
	}
	for _, m := range r["Mounts"].([]any) {
		if strings.Contains(m.(string), b.dir+" ") {
			t.Errorf("a mount of the device is left: %s", m)
		}
	}
}

func TestDefaultMountsAndDevices(t *testing.T) {
	b := newBench(t)
	r := b.probe([]string{"write:/dev/null", "list:/sys/fs/cgroup", "list:/dev/shm", "write:/proc/sys/net/ipv4/ip_forward"},
		"lxc.namespace.keep =", "lxc.namespace.keep = ipc", "lxc.mount.auto =", "lxc.mount.auto = proc sys cgroup")
	dev := map[string]bool{}
	for _, n := range r["Dev"].([]any) {
		dev[n.(string)] = true
	}
	for _, n := range []string{"null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "pts", "shm", "fd", "stdin", "stdout", "stderr"} {
		if !dev[n] {
			t.Errorf("/dev lacks %s", n)
		}
	}
	for i := range 8 {
		if !dev["tty"+itoa(i+1)] {
			t.Errorf("/dev lacks tty%d", i+1)
		}
	}
	if len(dev) != 22 {
		t.Errorf("/dev has %d entries: %v", len(dev), r["Dev"])
	}
	if got := tried(r, "write:/proc/sys/net/ipv4/ip_forward"); got != "ok" {
		t.Errorf("the container's own network cannot be adjusted: %s", got)
	}
	if got := tried(r, "list:/sys/fs/cgroup"); b.l.Tree.v2 && !strings.Contains(got, "cgroup.procs") {
		t.Errorf("/sys/fs/cgroup holds %q, want the container's own group", got)
	}
}

func TestCapabilities(t *testing.T) {
	for name, c := range map[string]struct {
		lines []string
		eff   string
		nnp   string
	}{
		"default":  {nil, "default", "0"},
		"keep":     {[]string{"lxc.cap.keep = net_admin net_raw"}, "0000000000003000", "1"},
		"keepnone": {[]string{"lxc.cap.keep = none"}, "0000000000000000", "1"},
		"user":     {[]string{"lxc.init.uid = 1000", "lxc.init.gid = 1001", "lxc.init.groups = 5,6"}, "0000000000000000", "1"},
		"nonnp":    {[]string{"lxc.cap.keep = none", "lxc.no_new_privs = 0"}, "0000000000000000", "0"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			r := b.probe(nil, c.lines...)
			st := r["Status"].(map[string]any)
			if c.eff == "default" {
				c.eff = st["CapBnd"].(string)
				for _, gone := range capsDropped {
					bit, _ := capBit(gone)
					if parseHex(c.eff)&bit != 0 {
						t.Errorf("the bounding set %s has %s", c.eff, gone)
					}
				}
				if keep, _ := capBit("sys_admin"); parseHex(c.eff)&keep == 0 {
					t.Error("the default takes sys_admin from system containers")
				}
			}
			if st["CapEff"] != c.eff || st["CapInh"] != "0000000000000000" {
				t.Errorf("CapEff %v, CapInh %v; want %s, none", st["CapEff"], st["CapInh"], c.eff)
			}
			if st["NoNewPrivs"] != c.nnp {
				t.Errorf("NoNewPrivs %v, want %s", st["NoNewPrivs"], c.nnp)
			}
			if name == "user" && (st["Uid"] != "1000\t1000\t1000\t1000" || st["Groups"] != "5 6") {
				t.Errorf("Uid %v, Groups %v", st["Uid"], st["Groups"])
			}
		})
	}
}

func parseHex(s string) (v uint64) {
	for _, c := range s {
		v = v<<4 | uint64(strings.IndexRune("0123456789abcdef", c))
	}
	return v
}

func TestMountEntries(t *testing.T) {
	b := newBench(t)
	for _, f := range []string{"data/hello", "ro/hello"} {
		p := filepath.Join(b.dir, f)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte("hi"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	// A link in the image that leads out must lead to the container's own root.
	if err := errors.Join(os.Symlink("../../../../../../../../etc", filepath.Join(b.dir, "root/trap")), os.Symlink("/run", filepath.Join(b.dir, "root/var"))); err != nil {
		t.Fatal(err)
	}
	e := "lxc.mount.entry = "
	r := b.probe([]string{"read:/srv/data/hello", "write:/srv/data/new", "write:/ro/new", "read:/etc/one", "list:/made",
		"list:/var/x", "read:/trap/in", "write:/ovl/new"},
		e+b.dir+"/data srv/data none bind,rw,create=dir 0 0",
		e+b.dir+"/ro /ro none bind,ro,create=dir 0 0",
		e+b.dir+"/ro/hello etc/one none bind,rw,create=file 0 0",
		e+b.dir+"/absent nowhere none bind,optional,create=dir 0 0",
		e+b.dir+"/fresh made none bind,create=dir,origin=mkdir 0 0",
		e+"tmpfs var/x tmpfs rw,create=dir,mode=700 0 0",
		e+b.dir+"/ro/hello trap/in none bind,create=file 0 0",
		e+"overlay ovl overlay lowerdir="+b.dir+"/ro,upperdir="+b.dir+"/vol2/upper,workdir="+b.dir+"/vol2/work,create=dir 0 0")
	for what, want := range map[string]string{
		"read:/srv/data/hello": "hi", "write:/srv/data/new": "ok", "read:/etc/one": "hi", "list:/made": "",
		"list:/var/x": "", "read:/trap/in": "hi", "write:/ovl/new": "ok",
	} {
		if got := tried(r, what); got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	if got := tried(r, "write:/ro/new"); !strings.Contains(got, "read-only") {
		t.Errorf("a read-only mount takes a file: %s", got)
	}
	if _, err := os.Stat("/etc/in"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a link of the image led a mount out of the container: %v", err)
	}
	if _, err := os.Stat(filepath.Join(b.dir, "vol2/upper/new")); err != nil {
		t.Errorf("the overlay entry: %v", err)
	}
}

// TestMountsThroughLinks mounts on names that links of the image lead to and that do not
// exist, below file systems that the configuration mounts later.
func TestMountsThroughLinks(t *testing.T) {
	b := newBench(t)
	file := filepath.Join(b.dir, "resolv.conf")
	if err := os.WriteFile(file, []byte("nameserver"), 0o644); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{
		"etc/resolv.conf": "../run/systemd/resolve/stub-resolv.conf", "abs": "/run/abs/name", "deep": "one/../two/link",
		"two/link": "../three/name", "up": "../../../run/up/name", "lately": "/late/below/name", "round": "round", "dirs": "run/a/b",
		"lib/fixed": "/usr/share/fixed/name",
	} {
		p := filepath.Join(b.dir, "root", link)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.MkdirAll(filepath.Join(b.dir, "root/one"), 0o755), os.Symlink(to, p)); err != nil {
			t.Fatal(err)
		}
	}
	e := "lxc.mount.entry = "
	var lines, tries []string
	for _, link := range []string{"/etc/resolv.conf", "/abs", "/deep", "/up", "/lately", "/lib/fixed", "/dirs/file"} {
		lines = append(lines, e+file+" "+link[1:]+" none bind,rw,create=file 0 0")
		tries = append(tries, "read:"+link)
	}
	lines = append(lines, e+b.dir+" sbin/sub none bind,create=dir 0 0", e+file+" round none bind,create=file,optional 0 0",
		e+"tmpfs late/below tmpfs rw,create=dir 0 0", e+"tmpfs late tmpfs rw,create=dir 0 0",
		e+"tmpfs run tmpfs rw,nodev,relatime,create=dir,mode=755 0 0")
	r := b.probe(append(tries, "list:/run", "list:/late"), append([]string{e}, lines...)...)
	for _, try := range tries {
		if got := tried(r, try); got != "nameserver" {
			t.Errorf("%s: %q", try, got)
		}
	}
	if got := tried(r, "list:/run"); got != "a abs systemd up" {
		t.Errorf("/run holds %q", got)
	}
	for _, outside := range []string{"/run/up/name", "/run/abs/name", "/late"} {
		if exists(outside) {
			t.Errorf("a link led to the device's %s", outside)
		}
	}
}

// TestHiddenTargets mounts a directory that only the image has, below a tmpfs that comes
// later in the configuration.
func TestHiddenTargets(t *testing.T) {
	b := newBench(t)
	if err := errors.Join(os.MkdirAll(filepath.Join(b.dir, "root/data/in"), 0o755), os.MkdirAll(filepath.Join(b.dir, "kept/mine"), 0o755),
		os.WriteFile(filepath.Join(b.dir, "root/data/file"), nil, 0o644), os.WriteFile(filepath.Join(b.dir, "text"), []byte("text"), 0o644)); err != nil {
		t.Fatal(err)
	}
	e := "lxc.mount.entry = "
	r := b.probe([]string{"list:/data", "list:/data/in", "read:/data/file", "list:/copy"},
		e+b.dir+"/kept data/in none bind 0 0", e+b.dir+"/text data/file none bind 0 0",
		e+"data/in copy none bind,relative,create=dir 0 0", e+"tmpfs data tmpfs rw 0 0")
	for what, want := range map[string]string{"list:/data": "file in", "list:/data/in": "mine", "read:/data/file": "text", "list:/copy": "mine"} {
		if got := tried(r, what); got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
}

// TestNewVolumeIsTheUsers mounts volumes on a directory that belongs to the image's user:
// one that is new, one with content, and one of another container.
func TestNewVolumeIsTheUsers(t *testing.T) {
	b := newBench(t)
	vol := filepath.Join(b.dir, "volumes")
	for _, d := range []string{"app/docker--new", "app/docker--used/file", "other/docker--new"} {
		if err := os.MkdirAll(filepath.Join(vol, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var lines []string
	for name, source := range map[string]string{"new": "app/docker--new", "used": "app/docker--used", "other": "other/docker--new"} {
		dir := filepath.Join(b.dir, "root", name)
		if err := errors.Join(os.Mkdir(dir, 0o750), os.Chown(dir, 1234, 1235)); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, "lxc.mount.entry = "+vol+"/"+source+" "+name+" none bind,rw,create=dir 0 0")
	}
	cfg := b.config(append(lines, "lxc.rootfs.path = overlayfs:"+b.dir+"/root:"+vol+"/app/lxc-overlay/upper",
		"lxc.init.uid = 1234", "lxc.init.gid = 1235", "lxc.init.cmd = /sbin/init probe write:/new/x write:/used/x write:/other/x")...)
	p, err := b.l.Start(Start{Name: "app", Kind: "pv-app", Config: cfg, Volumes: []Volumes{{Dir: vol, Depth: 2}}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.end(p)
	var r map[string]any
	if err := json.Unmarshal([]byte(firstLine(t, p)), &r); err != nil {
		t.Fatal(err)
	}
	for what, want := range map[string]string{"write:/new/x": "ok", "write:/used/x": "permission denied", "write:/other/x": "permission denied"} {
		if got := tried(r, what); !strings.HasSuffix(got, want) {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	if info, err := os.Stat(filepath.Join(vol, "app/docker--new")); err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("%v, %v", info, err)
	}
}

// TestTightLimits sets limits that the start itself would run into, in a container that
// needs files to be opened and made for it.
func TestTightLimits(t *testing.T) {
	b := newBench(t)
	for _, limit := range []string{"nofile = 4", "nofile = 4:64", "fsize = 1000000", "as = 4294967296", "nproc = 64", "memlock = 0", "core = 0:unlimited"} {
		p := b.start("tight", "lxc.prlimit."+limit, "lxc.init.cwd = /not/there", "lxc.init.cmd = /sbin/init exit 7")
		<-p.Done()
		if e, _ := p.Exit(); e.Code != 7 && limit != "nofile = 4" { // too few for Go's poller
			t.Errorf("%s: it %s", limit, e)
		}
	}
}

// TestMissingWorkingDirectoryIsMade, also where a link of the image leads to it.
func TestMissingWorkingDirectoryIsMade(t *testing.T) {
	b := newBench(t)
	if err := os.Symlink("/var/lib/app", filepath.Join(b.dir, "root/link")); err != nil {
		t.Fatal(err)
	}
	for cwd, want := range map[string]string{"/srv/a/b": "/srv/a/b", "/link/sub": "/var/lib/app/sub", "/run/now": "/run/now", "/etc": "/etc"} {
		if r := b.probe(nil, "lxc.init.cwd = "+cwd); r["Cwd"] != want {
			t.Errorf("%s: init is in %v, want %s", cwd, r["Cwd"], want)
		}
	}
	if exists("/srv/a/b") || exists("/var/lib/app") {
		t.Error("the directory was made on the device")
	}
}

func TestConfigLayerIsUppermostLower(t *testing.T) {
	b := newBench(t)
	files := map[string]string{"root/etc/a": "image", "root/etc/b": "image", "conf/etc/a": "conf", "conf/etc/c": "conf", "vol/upper/etc/c": "mine"}
	for f, text := range files {
		p := filepath.Join(b.dir, f)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	p, err := b.l.Start(Start{Name: "layers", Above: []string{b.dir + "/conf"}, Config: b.config("lxc.init.cmd = /sbin/init probe read:/etc/a read:/etc/b read:/etc/c")})
	if err != nil {
		t.Fatal(err)
	}
	defer b.end(p)
	var r map[string]any
	if err := json.Unmarshal([]byte(firstLine(t, p)), &r); err != nil {
		t.Fatal(err)
	}
	for what, want := range map[string]string{"read:/etc/a": "conf", "read:/etc/b": "image", "read:/etc/c": "mine"} {
		if got := tried(r, what); got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
}

func TestFailingStartNamesTheStep(t *testing.T) {
	for name, c := range map[string]struct {
		lines []string
		want  []string
	}{
		"init":   {[]string{"lxc.init.cmd = /bin/nothere"}, []string{"looking for init", "/bin/nothere", "no such file"}},
		"noexec": {[]string{"lxc.init.cmd = /etc"}, []string{"looking for init", "is not an executable file"}},
		"source": {[]string{"lxc.mount.entry = /no/such/thing a none bind,create=dir 0 0"}, []string{"mounting /no/such/thing on /a", "source"}},
		"target": {[]string{"lxc.mount.entry = tmpfs nodir tmpfs rw 0 0"}, []string{"mounting tmpfs on /nodir", "target"}},
		"option": {[]string{"lxc.mount.entry = tmpfs run tmpfs rw,size=what 0 0"}, []string{"mounting tmpfs on /run", "invalid argument"}},
		"root":   {[]string{"lxc.rootfs.path = overlayfs:/no/such/layer:/tmp/x/upper"}, []string{"mounting the root", "/no/such/layer"}},
		"cwd":    {[]string{"lxc.init.cwd = /sbin/init"}, []string{"entering the working directory", "/sbin/init", "not a directory"}},
		"sysctl": {[]string{"lxc.namespace.keep =", "lxc.sysctl.net.no.such = 1"}, []string{"setting kernel parameters", "net/no/such"}},
		"device": {[]string{"lxc.sysctl.net.ipv4.ip_forward = 1"}, []string{"lxc.sysctl.net.ipv4.ip_forward", "leave net out of lxc.namespace.keep"}},
		"ipc":    {[]string{"lxc.sysctl.kernel.msgmax = 1"}, []string{"lxc.sysctl.kernel.msgmax", "leave ipc out"}},
		"cgroup": {[]string{"lxc.cgroup2.no.such = 1"}, []string{"setting no.such"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			if name == "cgroup" && !b.l.Tree.v2 {
				t.Skip("no cgroup v2 on this machine")
			}
			_, err := b.l.Start(Start{Name: "bad", Config: b.config(c.lines...)})
			if err == nil {
				t.Fatal("it started")
			}
			for _, w := range append(c.want, "starting container bad") {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not say %q", err, w)
				}
			}
			if _, err := os.Stat(filepath.Join(b.l.Tree.dir, "lxc/bad")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the control group is left: %v", err)
			}
		})
	}
}

func TestExitIsSeen(t *testing.T) {
	b := newBench(t)
	p := b.start("seven", "lxc.init.cmd = /sbin/init exit 7")
	<-p.Done()
	if e, err := p.Exit(); e.Code != 7 || e.String() != "exited with code 7" || err != nil {
		t.Errorf("%v, %v", e, err)
	}
	p = b.start("killed", "lxc.init.cmd = /sbin/init deaf", "lxc.console.path = none")
	p.Kill()
	<-p.Done()
	if e, err := p.Exit(); e.Signal != unix.SIGKILL || e.String() != "killed by SIGKILL" || err != nil {
		t.Errorf("%v, %v", e, err)
	}
}

func TestStop(t *testing.T) {
	b := newBench(t)
	p := b.start("obeys", "lxc.init.cmd = /sbin/init wait")
	firstLine(t, p)
	if p.Stop(t.Context()) {
		t.Error("an init that obeys was killed")
	}
	if e, _ := p.Exit(); e.Code != 0 {
		t.Errorf("it %s", e)
	}
	p = b.start("deaf", "lxc.init.cmd = /sbin/init deaf", "lxc.signal.halt = SIGTERM")
	firstLine(t, p)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if !p.Stop(over) {
		t.Error("an init that does not obey was not killed")
	}
}

func TestGroupNamesTheContainer(t *testing.T) {
	b := newBench(t)
	p := b.start("who", "lxc.init.cmd = /sbin/init wait")
	text, err := os.ReadFile("/proc/" + itoa(p.PID) + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	mark := "0::"
	if !b.l.Tree.v2 {
		mark = ":name=pantavisor:"
	}
	group, _ := ownGroup(string(text), mark)
	if name, own, ok := b.l.Tree.NameOf(group); name != "who" || own || !ok {
		t.Errorf("NameOf(%q) = %q, %v, %v", group, name, own, ok)
	}
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

func TestNameOf(t *testing.T) {
	tree := &Tree{path: "/pv", own: "/run"}
	for group, want := range map[string]string{
		"/pv/lxc/app": "app", "/pv/lxc/app/sub/x": "app", "/run": "own", "/pv": "-", "/": "-", "/pv/lxc": "-", "/pv/lxc/": "-",
		"/lxc/app": "-", "/pv2/lxc/app": "-", "/pv/lxcx/app": "-", "/pv/../lxc/app": "-", "": "-",
	} {
		name, own, ok := tree.NameOf(group)
		got := name
		if own {
			got = "own"
		}
		if !ok {
			got = "-"
		}
		if got != want {
			t.Errorf("NameOf(%q) = %q, want %q", group, got, want)
		}
	}
	if name, _, _ := (&Tree{path: "/"}).NameOf("/lxc/app"); name != "app" {
		t.Errorf("below the root group: %q", name)
	}
}

// traces counts what a container may leave behind.
type traces struct {
	mounts, fds, goroutines, groups int
}

func (b *bench) traces() traces {
	lines, _ := os.ReadFile("/proc/self/mountinfo") // other tests on the machine mount too
	fds, _ := os.ReadDir("/proc/self/fd")
	groups, _ := os.ReadDir(filepath.Join(b.l.Tree.dir, "lxc"))
	n := 0
	for _, g := range groups {
		if g.IsDir() {
			n++
		}
	}
	return traces{strings.Count(string(lines), b.dir), len(fds), runtime.NumGoroutine(), n}
}

func TestNothingIsLeft(t *testing.T) {
	b := newBench(t)
	cycle := func() {
		var ps []*Process
		for _, name := range []string{"one", "two", "three"} {
			p, err := b.l.Start(Start{Name: name, Config: b.config("lxc.init.cmd = /sbin/init wait",
				"lxc.rootfs.path = overlayfs:"+b.dir+"/root:"+b.dir+"/vol-"+name+"/upper")})
			if err != nil {
				t.Fatal(err)
			}
			ps = append(ps, p)
		}
		if _, err := b.l.Start(Start{Name: "bad", Config: b.config("lxc.init.cmd = /no")}); err == nil {
			t.Fatal("a container without init started")
		}
		for _, p := range slices.Backward(ps) {
			firstLine(t, p)
			if p.Stop(t.Context()) {
				t.Errorf("%s was killed", p.Name)
			}
			b.end(p)
		}
	}
	cycle()
	before := b.traces()
	for range 20 {
		cycle()
	}
	after := b.traces()
	for end := time.Now().Add(time.Minute); after.more(before) && time.Now().Before(end); after = b.traces() {
		time.Sleep(time.Millisecond) // goroutines may be on their way out
	}
	if after.more(before) {
		t.Errorf("before %+v, after 20 rounds %+v", before, after)
	}
}

// more reports whether there is more of anything than there was.
func (a traces) more(than traces) bool {
	return a.mounts > than.mounts || a.fds > than.fds || a.goroutines > than.goroutines || a.groups > than.groups
}

// BenchmarkStart measures a start and the end of a container whose init does
// nothing. The first stage runs in the device binary, as it does on a device.
func BenchmarkStart(bm *testing.B) {
	b := newBench(bm)
	binary, was := filepath.Join(b.dir, "pantavisor"), self
	self = func() (string, error) { return binary, nil }
	bm.Cleanup(func() { self = was })
	// The default of GODEBUG is that of package gobinary.
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w -X=runtime.godebugDefault=disablethp=1,containermaxprocs=0,updatemaxprocs=0", "-o", binary, "../../cmd/pantavisor")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		bm.Fatalf("%v\n%s", err, out)
	}
	if runtime.GOARCH == "amd64" {
		if err := os.WriteFile(filepath.Join(b.dir, "root/sbin/init"), nothing(), 0o755); err != nil {
			bm.Fatal(err)
		}
	}
	cfg := b.config("lxc.init.cmd = /sbin/init exit 0")
	before := cpu()
	for bm.Loop() {
		p, err := b.l.Start(Start{Name: "bench", Config: cfg})
		if err != nil {
			bm.Fatal(err)
		}
		<-p.Done()
		_ = p.Console.Close()
	}
	bm.ReportMetric(float64((cpu()-before).Microseconds())/1000/float64(bm.N), "cpu-ms/op")
}

// cpu is the processor time of this process and of its children that have ended.
func cpu() time.Duration {
	var self, kids unix.Rusage
	_ = errors.Join(unix.Getrusage(unix.RUSAGE_SELF, &self), unix.Getrusage(unix.RUSAGE_CHILDREN, &kids))
	return time.Duration(self.Utime.Nano() + self.Stime.Nano() + kids.Utime.Nano() + kids.Stime.Nano())
}

// nothing is a program for x86_64 that ends at once with code 0.
func nothing() []byte {
	code := []byte{0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05} // mov eax, 60; xor edi, edi; syscall
	const head, base = 64 + 56, 0x400000
	var b []byte
	put := func(size int, v uint64) {
		for range size {
			b = append(b, byte(v))
			v >>= 8
		}
	}
	b = append(b, 0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	for _, f := range [][2]uint64{{2, 2}, {2, 62}, {4, 1}, {8, base + head}, {8, 64}, {8, 0}, {4, 0}, {2, 64}, {2, 56}, {2, 1}, {2, 0}, {2, 0}, {2, 0},
		{4, 1}, {4, 5}, {8, 0}, {8, base}, {8, base}, {8, uint64(head + len(code))}, {8, uint64(head + len(code))}, {8, 4096}} {
		put(int(f[0]), f[1])
	}
	return append(b, code...)
}

func exists(p string) bool {
	_, err := os.Lstat(p)
	return err == nil
}

// TestStopReachesThroughShell stops an init that handles no signal by its child, and
// one that is asked before it listens.
func TestStopReachesThroughShell(t *testing.T) {
	b := newBench(t)
	for _, l := range []string{"lib", "lib64", "bin"} {
		if err := os.Symlink("usr/"+l, filepath.Join(b.dir, "root", l)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat("/usr/bin/sh"); err != nil {
		t.Skip("no shell in /usr/bin to run in a container")
	}
	p := b.start("shell", `lxc.init.cmd = /bin/sh "-c" "/sbin/init wait; exit 0"`,
		"lxc.mount.entry = /usr usr none bind,ro,create=dir 0 0")
	firstLine(t, p)
	if p.Stop(t.Context()) {
		t.Error("the container was killed")
	}
	if e, _ := p.Exit(); e.Code != 0 {
		t.Errorf("it %s", e)
	}
	for range 10 {
		p = b.start("early", "lxc.init.cmd = /sbin/init wait")
		if p.Stop(t.Context()) {
			t.Error("an init that was just starting was killed")
		}
		b.end(p)
	}
}

package container

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestStagesRunFromSealedCopy looks at the program of the first stage, which the second
// executes again. Package program has the tests of what can be done to the copy.
func TestStagesRunFromSealedCopy(t *testing.T) {
	b := newBench(t)
	if _, err := os.Stat("/bin/sh"); err != nil {
		t.Skip("the hook of this test is a shell script")
	}
	log := b.listen()
	hook := b.file("etc/hook", "#!/bin/sh\nreadlink /proc/$LXC_PID/exe\ngrep -h . /proc/$LXC_PID/task/*/comm | sort -u\nexit 0\n", 0o755)
	<-b.start("one", "lxc.hook.start-host = "+hook, "lxc.init.cmd = /sbin/init exit 0").Done()
	if !log.has("/memfd:pantavisor (deleted)") || !log.has(stageName) {
		t.Errorf("the first stage is not a sealed copy with a name of its own: %q", log.lines)
	}
}

// TestStartHookGetsWhatInitGets compares a start hook with init: a hook with more rights
// would be a way around every restriction, as would any process that it sees.
func TestStartHookGetsWhatInitGets(t *testing.T) {
	b := newBench(t)
	b.staticStages()
	b.file("etc/profile", "2\ndenylist\nmkdir errno 77\nmkdirat errno 77\n", 0o644)
	for name, lines := range map[string][]string{
		"default":    nil,
		"few":        {"lxc.cap.keep = kill chown net_bind_service"},
		"user":       {"lxc.init.uid = 1234", "lxc.init.gid = 1235", "lxc.init.groups = 1236"},
		"filtered":   {"lxc.seccomp.profile = profile"},
		"everything": {"lxc.seccomp.profile = profile", "lxc.cap.keep = kill", "lxc.init.uid = 1234", "lxc.prlimit.nofile = 64:128"},
		"suid":       {"lxc.seccomp.profile = profile", "lxc.cap.keep = kill", "lxc.no_new_privs = 0"},
		"devices":    {"lxc.cgroup.devices.deny = a"},
	} {
		t.Run(name, func(t *testing.T) {
			b := &bench{t: t, l: b.l, dir: b.dir}
			lines := append(lines, "lxc.mount.entry = tmpfs tmp tmpfs rw,mode=1777,create=dir 0 0", "lxc.init.cmd = /sbin/init rights /tmp/init")
			plain := b.rights("plain-"+name, []string{"init"}, lines...)
			hooked := b.rights("hooked-"+name, []string{"init", "hook"}, append(lines, "lxc.hook.start = /sbin/init rights /tmp/hook")...)
			if d := cmp.Diff([]string{plain[0], plain[0]}, hooked); d != "" || !strings.Contains(plain[0], "CapEff") {
				t.Errorf("init, and a hook, with other rights than an init without hooks (-want +got)\n%s", d)
			}
		})
	}
}

// rights starts a container whose programs note their rights and returns the notes.
func (b *bench) rights(name string, notes []string, lines ...string) []string {
	b.t.Helper()
	cfg := b.config(lines...)
	cfg.File = b.file("etc/lxc.container.conf", "", 0o644)
	p, err := b.l.Start(Start{Name: name, Config: cfg})
	if err != nil {
		b.t.Fatal(err)
	}
	defer b.end(p)
	firstLine(b.t, p)
	var list []string
	for _, n := range notes {
		text, err := os.ReadFile("/proc/" + itoa(p.PID) + "/root/tmp/" + n)
		if err != nil {
			b.t.Fatal(err)
		}
		list = append(list, string(text))
	}
	return list
}

// TestNullDeviceIsNotTheDevices: whoever can name the device's own null device as user
// 0 can change its mode for everybody.
func TestNullDeviceIsNotTheDevices(t *testing.T) {
	b := newBench(t)
	p := b.start("mute", "lxc.init.cmd = /sbin/init wait", "lxc.console.path = none")
	own, err := os.Stat("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	for fd := range 3 {
		theirs, err := os.Stat("/proc/" + itoa(p.PID) + "/fd/" + itoa(fd))
		if err != nil || os.SameFile(own, theirs) || theirs.Mode()&os.ModeCharDevice == 0 {
			t.Errorf("descriptor %d of an init without console is %v, %v; want the container's null device", fd, theirs, err)
		}
	}
	// With a /dev of its own and with what the image has there: nothing.
	for _, autodev := range []string{"1", "0"} {
		p := b.start("masked"+autodev, "lxc.init.cmd = /sbin/init wait", "lxc.console.path = none", "lxc.pty.max = 0", "lxc.tty.max = 0",
			"lxc.autodev = "+autodev, "lxc.mount.auto =", "lxc.mount.auto = proc sys:ro cgroup")
		tested := 0
		for _, f := range procMasked {
			if !exists(f) {
				continue
			}
			tested++
			inside := "/proc/" + itoa(p.PID) + "/root" + f
			theirs, err := os.Stat(inside)
			var fs unix.Statfs_t
			if err != nil || unix.Statfs(inside, &fs) != nil {
				t.Fatal(err)
			}
			if os.SameFile(own, theirs) && fs.Flags&unix.ST_RDONLY == 0 {
				t.Errorf("autodev %s: %s is the device's null device, writable as a file", autodev, f)
			}
			if text, err := os.ReadFile(inside); err != nil && autodev == "1" || len(text) > 0 {
				t.Errorf("%s reads %q, %v", f, text, err)
			}
		}
		if tested == 0 {
			t.Skip("this kernel has none of the files that are masked")
		}
	}
}

// TestOnlyProcessesAreWritableInProc walks the container's /proc for what user 0 may
// write without a capability.
func TestOnlyProcessesAreWritableInProc(t *testing.T) {
	b := newBench(t)
	var tries []string
	for _, d := range procReadOnly {
		if exists(d) {
			tries = append(tries, "chmod:"+d)
		}
	}
	r := b.probe(tries, "lxc.mount.auto =", "lxc.mount.auto = proc sys:ro cgroup")
	for _, try := range tries {
		if got := tried(r, try); !strings.Contains(got, "read-only") {
			t.Errorf("%s: %s; want a read-only file system", try, got)
		}
	}
	if !slices.Contains(tries, "chmod:/proc/sys") {
		t.Error("nothing was tried: the machine has no /proc/sys")
	}
}

func TestLinksInVolumesLeadNowhere(t *testing.T) {
	b := newBench(t)
	secret := b.file("secret/key", "secret", 0o644)
	b.file("volumes/app/data/etc/mine", "mine", 0o644)
	data := filepath.Join(b.dir, "volumes/app/data")
	for link, to := range map[string]string{"evil": filepath.Dir(secret), "up": "../../../secret", "file": secret, "own": "/etc", "near": "etc", "new": b.dir + "/secret"} {
		if err := os.Symlink(to, filepath.Join(data, link)); err != nil {
			t.Fatal(err)
		}
	}
	var lines []string
	entry := func(source, target, options string) {
		lines = append(lines, "lxc.mount.entry = "+data+source+" "+target+" none bind,create="+options+" 0 0")
	}
	entry("/evil", "evil", "dir,optional")
	entry("/up", "up", "dir,optional")
	entry("/file", "file", "file,optional")
	entry("/new/made", "new", "dir,origin=mkdir,optional")
	entry("/own", "own", "dir")
	entry("/near", "near", "dir")
	entry("/etc", "plain", "dir")
	entry("/a/b", "made", "dir,origin=mkdir")
	entry("", "whole", "dir")
	words := "lxc.init.cmd = /sbin/init probe list:/evil list:/up read:/file list:/new list:/own list:/near list:/plain list:/made read:/whole/etc/mine"
	p, err := b.l.Start(Start{Name: "links", Config: b.config(append(lines, words)...), Volumes: []Volumes{{Dir: filepath.Join(b.dir, "volumes"), Depth: 2}}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.end(p)
	var r map[string]any
	if err := json.Unmarshal([]byte(firstLine(t, p)), &r); err != nil {
		t.Fatal(err)
	}
	for what, want := range map[string]string{
		"list:/own": "mine", "list:/near": "mine", "list:/plain": "mine", "list:/made": "", "read:/whole/etc/mine": "mine",
	} {
		if got := tried(r, what); got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	for _, what := range []string{"list:/evil", "list:/up", "read:/file", "list:/new"} {
		if got := tried(r, what); strings.Contains(got, "key") || strings.Contains(got, "secret") {
			t.Errorf("%s: %q; a link in a volume led to the device", what, got)
		}
	}
	if exists(filepath.Join(b.dir, "secret/made")) {
		t.Error("a directory was made on the device through a link in a volume")
	}
}

func TestBelow(t *testing.T) {
	list := []Volumes{{"/pv/volumes/", 2}, {"/exports", 1}}
	for p, want := range map[string]string{
		"/pv/volumes/app/data/a/b": "/pv/volumes/app/data", "/pv/volumes/app/data": "/pv/volumes/app/data", "/pv/volumes/app": "", "/pv/volumes": "",
		"/exports/app/run/x": "/exports/app", "/exports/app": "/exports/app", "/exports": "", "/exportsx/app": "", "/dev/null": "",
		"/pv/volumes/app/data/../other/x": "/pv/volumes/app/other", "/pv/volumes/../../etc": "",
	} {
		if got := below(list, p); got != want {
			t.Errorf("below(%q) = %q, want %q", p, got, want)
		}
	}
}

// TestProcessesOfSubgroupsEnd is for kernels that have no cgroup.kill.
func TestProcessesOfSubgroupsEnd(t *testing.T) {
	b := newBench(t)
	g, err := b.l.Tree.group("deep", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := g.remove(time.Minute); err != nil {
			t.Error(err)
		}
	}()
	sub := &Group{tree: b.l.Tree, dir: filepath.Join(g.dir, "a/b"), fd: -1}
	if err := os.MkdirAll(sub.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	in, out := exec.Command("sleep", "600"), exec.Command("sleep", "600")
	for _, cmd := range []*exec.Cmd{in, out} {
		if err := cmd.Start(); err != nil {
			t.Skipf("this needs the program sleep: %v", err)
		}
		defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	}
	if err := sub.add(in.Process.Pid); err != nil {
		t.Fatal(err)
	}
	g.signal([]int{out.Process.Pid}, unix.SIGKILL) // in no group of the container's
	g.signalAll(unix.SIGKILL)
	if _, err := in.Process.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := out.Process.Signal(unix.Signal(0)); err != nil {
		t.Errorf("a process outside: %v", err)
	}
	if text, _ := os.ReadFile("/proc/" + itoa(out.Process.Pid) + "/stat"); strings.Contains(string(text), ") Z ") {
		t.Error("a process outside of the group was killed")
	}
}

func TestKeysAreNotShared(t *testing.T) {
	b := newBench(t)
	runtime.LockOSThread() // keyrings are of threads, and this one starts the containers
	defer runtime.UnlockOSThread()
	own, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, true)
	if err != nil {
		t.Skipf("this kernel has no keys: %v", err)
	}
	ids := map[string]bool{itoa(own): true}
	for range 2 {
		id := tried(b.probe([]string{"keyring:"}), "keyring:")
		if ids[id] || strings.Contains(id, "error") {
			t.Errorf("the container's session keyring is %s; taken are %v", id, ids)
		}
		ids[id] = true
	}
	if id := tried(b.probe([]string{"keyring:"}, "lxc.keyring.session = 0"), "keyring:"); id != itoa(own) {
		t.Errorf("with lxc.keyring.session = 0 it is %s, want the launcher's, %d", id, own)
	}
	if _, _, err := Parse(strings.NewReader("lxc.keyring.session = some")); err == nil {
		t.Error("lxc.keyring.session takes any word")
	}
}

func TestNoDescriptorIsLeftOpen(t *testing.T) {
	b := newBench(t)
	// As one that whoever started the runtime has left: not closed at execve.
	var left [2]int
	if err := unix.Pipe2(left[:], 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(left[0])
	defer unix.Close(left[1])
	p := b.start("fds", "lxc.init.cmd = /sbin/init wait")
	firstLine(t, p)
	entries, err := os.ReadDir("/proc/" + itoa(p.PID) + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	pipe, err := os.Readlink("/proc/self/fd/" + itoa(left[0]))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if to, _ := os.Readlink("/proc/" + itoa(p.PID) + "/fd/" + e.Name()); to == pipe || strings.HasPrefix(to, "socket:") {
			t.Errorf("init has descriptor %s, %s", e.Name(), to)
		}
	}
	own, err := os.ReadDir("/proc/self/fd") // as on a kernel without close_range
	if err != nil {
		t.Fatal(err)
	}
	markEach(own)
	for _, fd := range left {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("descriptor %d stays open at execve: %v", fd, err)
		}
	}
}

// TestHooksOfTheDeviceAreNotInVolumes: a container could replace a program with all rights.
func TestHooksOfTheDeviceAreNotInVolumes(t *testing.T) {
	b := newBench(t)
	volumes := []Volumes{{Dir: filepath.Join(b.dir, "volumes"), Depth: 2}}
	program := b.file("volumes/app/data/hook", "#!/bin/sh\ntouch "+b.dir+"/ran\n", 0o755)
	link := filepath.Join(b.dir, "link")
	if err := os.Symlink(program, link); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/bin/true", filepath.Join(b.dir, "volumes/app/data/out")); err != nil {
		t.Fatal(err)
	}
	for _, h := range hookEvents {
		for _, command := range []string{program, link, filepath.Join(b.dir, "volumes/app/data/out"), b.dir + "/root/../volumes/app/data/hook", filepath.Join(b.dir, "volumes/app/data/later")} {
			if h.name == "start" {
				continue // a program of the container
			}
			p, err := b.l.Start(Start{Name: "hooked", Config: b.config("lxc.hook."+h.name+" = "+command, "lxc.init.cmd = /sbin/init exit 0"), Volumes: volumes})
			if err == nil {
				b.end(p)
			}
			if err == nil || !strings.Contains(err.Error(), "lxc.hook."+h.name) || !strings.Contains(err.Error(), "is in a volume") {
				t.Errorf("%s = %s: %v", h.name, command, err)
			}
		}
	}
	if exists(b.dir + "/ran") {
		t.Error("a program of a container ran on the device")
	}
}

// TestProfilesInVolumes gives the container's own volume a profile that is a FIFO, and one
// that is a link to a file of the device.
func TestProfilesInVolumes(t *testing.T) {
	b := newBench(t)
	volumes := []Volumes{{Dir: filepath.Join(b.dir, "volumes"), Depth: 2}}
	data := filepath.Dir(b.file("volumes/app/data/good", "2\ndenylist\nacct errno 77\n", 0o644))
	secret := b.file("secret", "secret\n", 0o600)
	if err := unix.Mkfifo(data+"/fifo", 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, data+"/link"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"good": "", "fifo": "is not a regular file", "link": "no such file"} {
		p, err := b.l.Start(Start{Name: "profile", Config: b.config("lxc.seccomp.profile = "+data+"/"+name, "lxc.init.cmd = /sbin/init exit 0"), Volumes: volumes})
		if err == nil {
			b.end(p)
		}
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret\"")) {
			t.Errorf("%s: %v; want %q", name, err, want)
		}
	}
}

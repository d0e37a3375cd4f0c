package pventer

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/runtime/container"
	"github.com/pantavisor/pantavisor/runtime/ctrl/client"
	"github.com/pantavisor/pantavisor/runtime/entry"
	"github.com/pantavisor/pantavisor/runtime/peer"
)

// started starts a container whose init notes its rights in /tmp/init, beside an
// installation in the directory of this test's program.
func started(t *testing.T, lines ...string) *container.Process {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("starting containers needs root")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, socket := t.TempDir(), filepath.Join(filepath.Dir(exe), client.HostedSocket)
	for _, d := range []string{filepath.Dir(socket), dir + "/stage", dir + "/root/sbin", dir + "/root/bin", dir + "/vol"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = os.RemoveAll(filepath.Dir(filepath.Dir(socket))) })
	l, err := peer.Listen(socket, 0o600, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	build := exec.Command("go", "build", "-trimpath", "-o", dir+"/root/sbin/init", "../container/testdata/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the guest: %v\n%s", err, out)
	}
	tree, err := container.FindTree(dir + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	tree = tree.Sub("pv-test-" + strconv.Itoa(os.Getpid()))
	t.Cleanup(func() {
		if err := tree.Remove(); err != nil {
			t.Error(err)
		}
	})
	conf := strings.Join(append([]string{
		"lxc.rootfs.path = overlayfs:" + dir + "/root:" + dir + "/vol/upper", "lxc.namespace.keep = user net ipc", "lxc.mount.auto = proc sys:rw cgroup",
		"lxc.mount.entry = tmpfs tmp tmpfs rw,mode=1777,create=dir 0 0", "lxc.init.cmd = /sbin/init rights /tmp/init",
	}, lines...), "\n")
	cfg, _, err := container.Parse(strings.NewReader(conf))
	if err != nil {
		t.Fatal(err)
	}
	cfg.File = dir + "/lxc.container.conf"
	if err := os.WriteFile(dir+"/profile", []byte("2\ndenylist\nmkdir errno 77\nmkdirat errno 77\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	launcher := &container.Launcher{Tree: tree, Stage: dir + "/stage", Entries: filepath.Join(filepath.Dir(socket), entry.Dir)}
	p, err := launcher.Start(container.Start{Name: "inner", Config: cfg})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		<-p.Done()
		_ = p.Console.Close()
	})
	if _, err := bufio.NewReader(p.Console).ReadString('\n'); err != nil { // it has noted its rights
		t.Fatal(err)
	}
	return p
}

// TestCommandGetsWhatInitHas compares capabilities, the system call filter, no_new_privs,
// the limit of files and the control groups of every hierarchy.
func TestCommandGetsWhatInitHas(t *testing.T) {
	for name, lines := range map[string][]string{
		"default":    nil,
		"few":        {"lxc.cap.keep = kill chown net_bind_service"},
		"filtered":   {"lxc.seccomp.profile = profile"},
		"limits":     {"lxc.prlimit.nofile = 64:128"},
		"devices":    {"lxc.cgroup.devices.deny = a", "lxc.cgroup.devices.allow = c 5:* rw", "lxc.cgroup.devices.allow = c 136:* rw", "lxc.cgroup.devices.allow = c 1:3 rwm"},
		"everything": {"lxc.seccomp.profile = profile", "lxc.cap.keep = kill chown", "lxc.prlimit.nofile = 64:128", "lxc.cgroup.memory.limit_in_bytes = 400M"},
	} {
		t.Run(name, func(t *testing.T) {
			p := started(t, lines...)
			code, out, bad := pventer(t, "", "-c", "inner", "/sbin/init", "rights", "/tmp/entered")
			if code != 0 {
				t.Fatalf("exit code %d: %s%s", code, out, bad)
			}
			read := func(name string) string {
				text, err := os.ReadFile("/proc/" + strconv.Itoa(p.PID) + "/root/tmp/" + name)
				if err != nil {
					t.Fatal(err)
				}
				return string(text)
			}
			if d := cmp.Diff(read("init"), read("entered")); d != "" || !strings.Contains(read("init"), "CapEff") {
				t.Errorf("rights of init and of the command differ (-init +command)\n%s", d)
			}
		})
	}
}

// guestCalls are the system calls of the guest, a Go program, beyond those that pventer
// takes.
const guestCalls = "arch_prctl epoll_create1 epoll_ctl epoll_pwait eventfd2 fstat getdents64 gettid madvise mkdirat mknodat mmap munmap nanosleep " +
	"newfstatat openat prctl pread64 prlimit64 sched_getaffinity sched_yield sigaltstack tgkill unlinkat write"

// TestProfileOfTheDocument enters containers whose profile kills what docs/launcher.md
// does not list; without one of the calls it cannot.
func TestProfileOfTheDocument(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the list of the guest's calls is that of amd64")
	}
	text, err := os.ReadFile("../../docs/launcher.md")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(text), "`pventer` itself: ")
	list, _, ok := strings.Cut(list, "; on a terminal also")
	if !ok {
		t.Fatal("docs/launcher.md lacks the list")
	}
	calls := strings.FieldsFunc(list, func(c rune) bool { return strings.ContainsRune("`, \n", c) })
	for _, without := range []string{"", "pipe2", "waitid"} {
		allowed := slices.DeleteFunc(append(strings.Fields(guestCalls), calls...), func(c string) bool { return c == without })
		profile := filepath.Join(t.TempDir(), "profile")
		if err := os.WriteFile(profile, []byte("2\nallowlist kill\n"+strings.Join(allowed, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Run("without "+without, func(t *testing.T) {
			started(t, "lxc.seccomp.profile = "+profile)
			code, out, bad := pventer(t, "", "-c", "inner", "/sbin/init", "exit", "3")
			if (code == 3) != (without == "") {
				t.Errorf("exit code %d: %s%s", code, out, bad)
			}
		})
	}
}

// TestFIFOInTheContainer: a container may have anything for its list of users.
func TestFIFOInTheContainer(t *testing.T) {
	started(t, "lxc.init.cmd = /sbin/init fifo /etc/passwd")
	code, out, bad := pventer(t, "", "-c", "inner", "/sbin/init", "exit", "3")
	if code != 3 {
		t.Errorf("exit code %d: %s%s", code, out, bad)
	}
}

func TestUnknownToTheRuntime(t *testing.T) {
	started(t)
	name := unshared(t) // in a control group like that of a container
	if code, _, bad := pventer(t, "", "-c", name, "true"); code != exitFailed || !strings.Contains(bad, "does not run") {
		t.Errorf("exit code %d: %s", code, bad)
	}
}

func TestMemberships(t *testing.T) {
	const text = "4:cpu,cpuacct:/a:b\n1:name=pantavisor:/lxc/x\n0::/lxc/x\n"
	const mounts = `1 2 0:3 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
1 2 0:3 / /pv rw - cgroup cgroup rw,name=pantavisor
1 2 0:3 /other /sys/elsewhere rw - cgroup2 none rw
1 2 0:3 / /sys/fs/cgroup/unified rw - cgroup2 none rw
`
	want := []string{"/sys/fs/cgroup/cpu,cpuacct/a:b", "/pv/lxc/x", "/sys/fs/cgroup/unified/lxc/x"}
	var got []string
	for _, m := range memberships(text) {
		got = append(got, m.directory(mounts))
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

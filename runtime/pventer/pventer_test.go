package pventer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/oracle"

	"github.com/pantavisor/pantavisor/runtime/container"
)

// unshared starts a process in namespaces and a control group of its own, as a
// container's first process is, and returns its name. Its UTS name is "inside".
func unshared(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making a container needs root")
	}
	unshare := oracle.Program(t, "unshare")
	name := fmt.Sprintf("pventer-test-%d", os.Getpid())
	dir := ""
	for _, root := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil {
			dir = filepath.Join(root, "lxc", name)
			break
		}
	}
	if dir == "" || os.MkdirAll(dir, 0o755) != nil {
		t.Skip("making a container needs a writable cgroup v2 tree")
	}
	ready := filepath.Join(t.TempDir(), "ready")
	script := "echo $$ >" + dir + "/cgroup.procs; exec " + unshare + " -mpuif --mount-proc sh -c '" +
		"hostname inside; mount -t tmpfs none /mnt; echo secret >/mnt/file; echo \"#!/proc/self/exe\" >/mnt/evil; chmod +x /mnt/evil; echo ok >" + ready + "; exec sleep 600'"
	cmd := exec.Command("sh", "-c", script)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "FROM_INIT=yes", "HOME=/wrong", "CHMOD_PROGRAM=yes"}
	var bad bytes.Buffer
	cmd.Stderr = &bad
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if pid := find("/proc", "", name); pid > 0 {
			if p, err := os.FindProcess(pid); err == nil {
				_ = p.Kill()
			}
		}
		_ = cmd.Wait()
		for end := time.Now().Add(10 * time.Second); os.Remove(dir) != nil && time.Now().Before(end); time.Sleep(time.Millisecond) {
		}
		_ = os.Remove(filepath.Dir(dir)) // stays while others are in it
	})
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if _, err := os.Stat(ready); err == nil {
			return name
		}
	}
	t.Skipf("this machine cannot make namespaces: %s", bad.String())
	return ""
}

// TestMain lets the test binary be pventer: entering changes the whole program.
func TestMain(m *testing.M) {
	if os.Getenv("CHMOD_PROGRAM") != "" && os.Getenv("BE_PVENTER") == "" {
		fmt.Println(os.Chmod("/proc/self/exe", 0))
		os.Exit(0)
	}
	if os.Args[0] == container.StageArg {
		container.Init()
	}
	if os.Getenv("BE_PVENTER") != "" {
		os.Exit(Run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func pventer(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "BE_PVENTER=1", "FROM_HOST=yes", "TERM=vt100")
	var out, bad bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &bad
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), bad.String()
}

func TestEnter(t *testing.T) {
	name := unshared(t)
	tests := []struct {
		words []string
		stdin string
		code  int
		out   string
	}{
		{[]string{"hostname"}, "", 0, "inside\n"},
		{[]string{"cat", "/mnt/file"}, "", 0, "secret\n"},
		{[]string{"cat /proc/1/comm | tr a-z A-Z"}, "", 0, "SLEEP\n"},
		{[]string{"echo $FROM_INIT $FROM_HOST $TERM $USER $HOME"}, "", 0, "yes vt100 root /root\n"},
		{[]string{"grep", "-c", "lxc/" + name, "/proc/self/cgroup"}, "", 0, "1\n"},
		{[]string{"sh", "-c", "echo 'two  words' \"$1\"", "sh", "a  b"}, "", 0, "two  words a  b\n"},
		{[]string{"cat"}, "over standard input", 0, "over standard input"},
		{nil, "echo a shell in $(hostname)\nexit 7\n", 7, "a shell in inside\n"},
		{[]string{"exit 3"}, "", 3, ""},
		{[]string{"kill -9 $$"}, "", 137, ""},
		{[]string{"no-such-program"}, "", 127, ""},
		{[]string{"no-such-program", "x"}, "", 127, ""},
		{[]string{"/no/such/program", "x"}, "", 127, ""},
		{[]string{"/mnt/evil", "runs this very program"}, "", 0, "chmod /proc/self/exe: operation not permitted\n"},
	}
	for _, tt := range tests {
		code, out, bad := pventer(t, tt.stdin, append([]string{"-c", name}, tt.words...)...)
		if code != tt.code || out != tt.out {
			t.Errorf("%q: exit %d, out %q, err %q, want %d %q", tt.words, code, out, bad, tt.code, tt.out)
		}
	}
	if own, _ := os.Hostname(); own == "inside" {
		t.Error("the test itself is in the container")
	}
}

func TestTheRuntimeItself(t *testing.T) {
	if _, err := os.ReadFile("/proc/1/environ"); err != nil {
		t.Skipf("process 1 of this machine cannot be looked at: %v", err)
	}
	own, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if code, out, bad := pventer(t, "", "-c", "/", "hostname"); code != 0 || out != own+"\n" {
		t.Errorf("exit %d, %q, %q", code, out, bad)
	}
}

// TestUnknownUser runs nothing as root that was to run as somebody else.
func TestUnknownUser(t *testing.T) {
	name := unshared(t)
	t.Setenv("PVUSER", "has-no-line-in-passwd")
	if code, out, bad := pventer(t, "", "-c", name, "id"); code != 1 || out != "" || !strings.Contains(bad, "user has-no-line-in-passwd of PVUSER") {
		t.Errorf("exit %d, %q, %q", code, out, bad)
	}
}

func TestUnknownContainer(t *testing.T) {
	if code, out, bad := pventer(t, "", "-c", "nobody-has-this-name"); code != 1 || out != "no container found\n" || !strings.Contains(bad, "container nobody-has-this-name does not run") {
		t.Errorf("exit %d, %q, %q", code, out, bad)
	}
	for _, help := range []string{"-h", "--help"} {
		if code, out, bad := pventer(t, "", help); code != 0 || out != usage || bad != "" {
			t.Errorf("%s: exit %d, %q, %q", help, code, out, bad)
		}
	}
	for _, args := range [][]string{nil, {"-c"}, {"-c", ""}, {"app"}} {
		var bad bytes.Buffer
		if code := Run(context.Background(), args, nil, io.Discard, &bad); code != 1 || !strings.Contains(bad.String(), "usage") {
			t.Errorf("%q: exit %d, %q", args, code, bad.String())
		}
	}
}

func TestNameIn(t *testing.T) {
	tests := map[string]string{
		"/lxc/app": "app", "/lxc/app/sub/lxc/other": "app", "/engine-1/lxc/app": "app", "/": "", "/lxc": "", "/lxc/": "", "/xlxc/app": "", "/user/lxcx/a": "",
	}
	for group, want := range tests {
		if got := nameIn(group); got != want {
			t.Errorf("nameIn(%q) = %q, want %q", group, got, want)
		}
	}
}

func TestLookUp(t *testing.T) {
	passwd := []byte("root:x:0:0:root:/root:/bin/bash\nbad:x:no:1::/:/bin/sh\nshort:x\nuser:x:1000:100:U:/home/user:\n")
	opt := cmp.AllowUnexported(user{})
	for name, want := range map[string]user{
		"root": {"root", "/root", "/bin/bash", 0, 0}, "user": {"user", "/home/user", "/bin/sh", 1000, 100},
		"bad": {"root", "/", "/bin/sh", 0, 0}, "nobody": {"root", "/", "/bin/sh", 0, 0},
	} {
		if diff := cmp.Diff(want, lookUp(passwd, name), opt); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestLookPath(t *testing.T) {
	if got, err := lookPath("sh", []string{"PATH=/nonexistent:/bin"}); err != nil || got != "/bin/sh" {
		t.Errorf("sh is %q, %v", got, err)
	}
	if _, err := lookPath("no-such-program", nil); err == nil {
		t.Error("a program that is not there was found")
	}
}

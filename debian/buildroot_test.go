package debian_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/debian/partstest"
)

// TestBuildRoot runs programs in the build root of a kernel.
func TestBuildRoot(t *testing.T) {
	b := partstest.New(t, "malta-qemu-be", "toolchain")
	all, err := b.All(b.Request("toolchain"))
	if err != nil {
		t.Fatal(err)
	}
	// A shell and what it needs.
	small := regexp.MustCompile(`^(busybox-static|coreutils|dash|libacl1|libattr1|libc6|libgmp10|libpcre2-8-0|libselinux1|mawk)$`)
	root := &debian.BuildRoot{Request: "test", Links: map[string]string{"usr/bin/awk": "mawk"}}
	for _, p := range all {
		if small.MatchString(p.Entry.Package) {
			root.Packages = append(root.Packages, p)
		}
	}
	dir := b.Run(root)
	t.Run("is closed", func(t *testing.T) { isClosed(t, root, b.Work(root), dir, func(*exec.Cmd) {}) })
	if os.Geteuid() == 0 {
		t.Run("is closed for a user", func(t *testing.T) { isClosed(t, root, b.Work(root), dir, asNobody) })
	}
	t.Run("is cancelled", func(t *testing.T) { isCancelled(t, root, b.Work(root)) })
}

// isClosed: only its directory and /tmp can be written to, there is no network, and nothing of
// this machine's files is seen.
func isClosed(t *testing.T, root *debian.BuildRoot, w *build.Work, dir string, as func(*exec.Cmd)) {
	t.Helper()
	t.Setenv("CC", "nonexistent")
	work := t.TempDir()
	for _, path := range []string{work, w.Tmp, dir} { // a user reaches them
		for at := path; at != filepath.Clean(os.TempDir()) && at != "/"; at = filepath.Dir(at) {
			if err := os.Chmod(at, 0o777); err != nil {
				t.Fatal(err)
			}
		}
	}
	const script = `pwd && echo $0 | awk '{print "awk " $1}' > /build/a && cat a
id -u
touch /usr/bin/x 2>/dev/null && echo /usr can be written to
touch /tmp/x && ls /build
ls /sys/class/net /home /root 2>/dev/null
ls -A /old && echo $(ls /dev) && cat /proc/1/comm
echo "$CC" "$TZ" "$SOURCE_DATE_EPOCH" `
	cmd, err := root.Command(t.Context(), w, work, "sh", "-c", script)
	if err != nil {
		t.Fatal(err)
	}
	as(cmd)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if diff := cmp.Diff("/build\nawk sh\n0\na\nfd full null random stderr stdin stdout urandom zero\nsh\n UTC 1577836800\n", string(out)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := os.Lstat(filepath.Join(dir, "tmp/x")); err == nil {
		t.Error("the root's /tmp was written to")
	}
	if mounts, err := os.ReadFile("/proc/self/mounts"); err != nil || strings.Contains(string(mounts), dir) {
		t.Errorf("its mounts are seen outside: %v", err)
	}
}

// asNobody starts a program as a user who is not root does.
func asNobody(cmd *exec.Cmd) {
	const nobody = 65534
	a := cmd.SysProcAttr
	a.Cloneflags |= syscall.CLONE_NEWUSER
	a.UidMappings, a.GidMappings = []syscall.SysProcIDMap{{HostID: nobody, Size: 1}}, []syscall.SysProcIDMap{{HostID: nobody, Size: 1}}
	a.Credential = &syscall.Credential{NoSetGroups: true}
}

// isCancelled: what runs in it ends with the context, children too.
func isCancelled(t *testing.T, root *debian.BuildRoot, w *build.Work) {
	t.Helper()
	work := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd, err := root.Command(ctx, w, work, "sh", "-c", "(while :; do :; done) & touch started; wait")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(filepath.Join(work, "started")); err == nil {
				cancel()
			}
			time.Sleep(time.Millisecond)
		}
	}()
	var exit *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL { //nolint:forcetypeassert // Linux
		t.Errorf("it ended with %v", err)
	}
}

// TestStartedSaysWhatToDo: a kernel that gives no namespaces.
func TestStartedSaysWhatToDo(t *testing.T) {
	t.Parallel()
	if err := debian.Started(syscall.EPERM); err == nil || !strings.Contains(err.Error(), "run as root") {
		t.Errorf("%v", err)
	}
	if err := debian.Started(nil); err != nil {
		t.Error(err)
	}
}

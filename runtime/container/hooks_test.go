package container

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// hookScript notes its call in a file beside it, and whether it sees the
// container's root put together.
const hookScript = `#!/bin/sh
d=$(dirname "$0")
inside=out
[ -e "$LXC_ROOTFS_MOUNT/sbin/init" ] && inside=in
stop=
[ -n "$LXC_MNT_NS" ] && [ -e "$LXC_MNT_NS" ] && stop=spaces
echo "$LXC_HOOK_TYPE $LXC_NAME $LXC_HOOK_SECTION $inside $(basename "$PWD") $stop args:$1,$2,$3" >> "$d/calls"
echo said-by-$LXC_HOOK_TYPE
`

func TestHooks(t *testing.T) {
	b := newBench(t)
	if _, err := os.Stat("/bin/sh"); err != nil {
		t.Skip("the hooks of this test are shell scripts")
	}
	log := b.listen()
	h := b.file("etc/hook", hookScript, 0o755)
	var lines []string
	for _, e := range []string{"post-stop", "stop", "start-host", "autodev", "mount", "pre-mount", "pre-start"} {
		lines = append(lines, "lxc.hook."+e+" = "+h)
	}
	cfg := b.config(append(lines, "lxc.init.cmd = /sbin/init exit 0")...)
	cfg.File = filepath.Join(b.dir, "etc/lxc.container.conf")
	p, err := b.l.Start(Start{Name: "hooked", Config: cfg})
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	b.end(p)
	text, _ := os.ReadFile(filepath.Join(b.dir, "etc/calls"))
	want := []string{
		"pre-start hooked lxc out etc  args:hooked,lxc,pre-start", "pre-mount hooked lxc out etc  args:hooked,lxc,pre-mount",
		"mount hooked lxc in etc  args:hooked,lxc,mount", "autodev hooked lxc in etc  args:hooked,lxc,autodev",
		"start-host hooked lxc out etc  args:hooked,lxc,start-host", "stop hooked lxc out etc spaces args:hooked,lxc,stop",
		"post-stop hooked lxc out etc  args:hooked,lxc,post-stop",
	}
	if d := cmp.Diff(want, strings.Split(strings.TrimSpace(string(text)), "\n")); d != "" {
		t.Errorf("calls (-want +got)\n%s", d)
	}
	for _, e := range []string{"pre-start", "mount", "post-stop"} {
		if !log.has("hook " + e + ": said-by-" + e) {
			t.Errorf("what the hook %s said is not in the log", e)
		}
	}
}

// TestStartHookRunsInContainer runs a program of the container's own root.
func TestStartHookRunsInContainer(t *testing.T) {
	b := newBench(t)
	b.staticStages()
	r := b.probe([]string{"read:/run/hook"}, "lxc.hook.version = 1", "lxc.hook.start = /sbin/init hook /run/hook")
	if got := tried(r, "read:/run/hook"); got != "probe start 1" {
		t.Errorf("the hook wrote %q", got)
	}
}

// TestFailingStartHookStopsStart needs the second stage's answer.
func TestFailingStartHookStopsStart(t *testing.T) {
	b := newBench(t)
	b.staticStages()
	_, err := b.l.Start(Start{Name: "bad", Config: b.config("lxc.hook.start = /sbin/init exit 3")})
	if err == nil || !strings.Contains(err.Error(), "running the hook start: /sbin/init: exit status 3") {
		t.Error(err)
	}
	if exists(filepath.Join(b.l.Tree.dir, "lxc/bad")) {
		t.Error("the control group is left")
	}
}

func TestFailingHookStopsStart(t *testing.T) {
	if _, err := os.Stat("/bin/sh"); err != nil {
		t.Skip("the hooks of this test are shell scripts")
	}
	for _, e := range []string{"pre-start", "pre-mount", "mount", "autodev", "start-host"} {
		b := newBench(t)
		h := b.file("hook", "#!/bin/sh\necho no way; exit 3\n", 0o755)
		_, err := b.l.Start(Start{Name: "bad", Config: b.config("lxc.hook." + e + " = " + h)})
		if err == nil || !strings.Contains(err.Error(), "exit status 3 (\"no way\")") || !strings.Contains(err.Error(), "hook "+e) {
			t.Errorf("%s: %v", e, err)
		}
		if exists(filepath.Join(b.l.Tree.dir, "lxc/bad")) {
			t.Errorf("%s: the control group is left", e)
		}
	}
}

func TestParseHooks(t *testing.T) {
	c, notes := parse(t, "lxc.hook.mount = /a b\nlxc.hook.mount =\nlxc.hook.mount = /c\nlxc.hook.clone = /x\nlxc.hook.nosuch = /y\n")
	if d := cmp.Diff([]Hook{{"mount", "/c"}}, c.Hooks); d != "" {
		t.Error(d)
	}
	if len(notes) != 1 || notes[0].Key != "lxc.hook.nosuch" {
		t.Errorf("notes %v", notes)
	}
	for _, bad := range []string{"lxc.hook.mount = mount.sh", "lxc.hook.version = 2", `lxc.hook.start = "x`} {
		if _, _, err := Parse(strings.NewReader(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestClippedBuffer(t *testing.T) {
	var b clippedBuffer
	for range 3 {
		if n, err := b.Write(make([]byte, hookOutput-1)); n != hookOutput-1 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	if len(b) != hookOutput {
		t.Errorf("%d bytes are kept", len(b))
	}
}

func TestHooksAndProfilesAreTranslated(t *testing.T) {
	c, _ := parse(t, "lxc.hook.mount = /volumes/a/h x\nlxc.hook.start = /volumes/b\nlxc.seccomp.profile = /volumes/a/p\n")
	c.Translate([]Directory{{"/volumes", "/v"}})
	if d := cmp.Diff([]Hook{{"mount", "/v/a/h x"}, {"start", "/volumes/b"}}, c.Hooks); d != "" || c.Seccomp != "/v/a/p" {
		t.Errorf("%s, %s", d, c.Seccomp)
	}
}

package device

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/pvcontrol"
)

// TestSecondUpdateWaits asks for an update while another one waits for a container with a time-out
// of its own. The socket refuses it, updates show says how long that may take, and
// pvcontrol --wait does it afterwards.
func TestSecondUpdateWaits(t *testing.T) {
	d := updated(t)
	d.send("locals/next")
	d.add("slow", "app", "/sbin/init stay", map[string]any{"status_goal": "READY", "timeout": 5})
	d.send("locals/slow")
	d.command(api.OpLocalRun, "locals/slow")
	left := d.timeLeft("slow")
	if left < 1 || left > 5 {
		t.Errorf("of 5 seconds %d are left", left)
	}
	if show := d.control("updates", "show", "locals/slow"); !strings.Contains(show, "group app: ") || !strings.Contains(show, "container slow is ") || !strings.Contains(show, "of 5 s are left to be READY") {
		t.Errorf("updates show says\n%s", show)
	}
	const refusal = "503 {\"Error\":\"Cannot do this operation while update is ongoing\"}"
	if _, err := d.try(http.MethodPost, "/commands", `{"op":"LOCAL_RUN","payload":"locals/next"}`); err == nil || strings.TrimSpace(err.Error()) != refusal {
		t.Errorf("a second update: %v", err)
	}
	if out := d.control("--wait", "cmd", "run", "locals/next"); !strings.Contains(out, "INPROGRESS") || !strings.Contains(out, "UPDATED") {
		t.Errorf("pvcontrol --wait says\n%s", out)
	}
	u := d.ends("locals/slow", "ERROR")
	if f := u.Failure; u.Message != "Status goal not reached" || f == nil || f.Check != "goal" || f.Container != "slow" || f.Goal != "READY" || f.Timeout != 5 {
		t.Errorf("it ended with %q, %+v", u.Message, u.Failure)
	}
	d.off()
}

// TestStagedUpdate stages a revision, takes it back, and stages it again: the restart that
// somebody asks for tries it.
func TestStagedUpdate(t *testing.T) {
	d := updated(t)
	d.add("second", "app", "/sbin/init stay", nil)
	d.send("locals/a")
	d.stage("locals/a")
	d.control("updates", "cancel", "locals/a")
	d.ends("locals/a", "CANCELED")
	d.stage("locals/a")
	if _, runs := d.pids()["second"]; runs {
		t.Error("it runs already")
	}
	d.command(api.OpReboot, "")
	d.restarted()
	d.ends("locals/a", "DONE")
	d.await(map[string]string{"mgmt": "STARTED", "app": "STARTED", "second": "STARTED"})
	if got, want := d.stored("locals/a"), "rev=locals/a try= DONE done=true"; got != want {
		t.Errorf("stored is %q, want %q", got, want)
	}
	d.off()
}

// stage prepares a revision for the next restart.
func (d *device) stage(rev string) {
	d.t.Helper()
	if out := d.control("--wait", "updates", "stage", rev); !strings.Contains(out, "Update installed, waiting for a reboot") {
		d.t.Fatalf("staging %s: %s", rev, out)
	}
}

// TestCancelUnderTest takes an update back that waits for a container which is never ready.
func TestCancelUnderTest(t *testing.T) {
	d := updated(t)
	d.add("slow", "app", "/sbin/init stay", map[string]any{"status_goal": "READY", "timeout": 0})
	d.send("locals/slow")
	d.command(api.OpLocalRun, "locals/slow")
	for end := time.Now().Add(20 * time.Second); d.pids()["slow"] == 0 && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	d.control("updates", "cancel", "locals/slow")
	if u := d.ends("locals/slow", "ERROR"); u.Message != "Update aborted" {
		t.Errorf("it ended with %q", u.Message)
	}
	d.await(map[string]string{"mgmt": "STARTED", "app": "STARTED"})
	if got, want := d.stored("locals/slow"), "rev= try= ERROR done=false"; got != want {
		t.Errorf("stored is %q, want %q", got, want)
	}
	d.off()
}

// timeLeft waits until the time of a container runs and returns the seconds that are left.
func (d *device) timeLeft(name string) int {
	d.t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		var list []api.Container
		if err := json.Unmarshal([]byte(d.ask(http.MethodGet, "/containers", "")), &list); err != nil {
			d.t.Fatal(err)
		}
		at := slices.IndexFunc(list, func(c api.Container) bool { return c.Name == name && c.TimeoutRemaining != nil })
		if at >= 0 {
			return *list[at].TimeoutRemaining
		}
	}
	d.t.Fatalf("no time of %s runs", name)
	return 0
}

// control runs pvcontrol on the device's socket and returns what it prints.
func (d *device) control(args ...string) string {
	d.t.Helper()
	var out, bad bytes.Buffer
	if code := pvcontrol.Run(d.t.Context(), append([]string{"-s", d.ctl.Socket}, args...), strings.NewReader(""), &out, &bad); code != 0 {
		d.t.Fatalf("pvcontrol %q: exit code %d\n%s%s", args, code, &out, &bad)
	}
	return out.String()
}

// TestManyUpdates changes an app again and again, with every fourth change for the worse: nothing
// of the earlier revisions stays mounted or in memory.
func TestManyUpdates(t *testing.T) {
	d := updated(t)
	change := func(i int) {
		init, want := "/sbin/init stay", "UPDATED"
		if i%4 == 0 {
			init, want = "/sbin/none", "ERROR"
		}
		d.add("app", "app", init, map[string]any{"description": fmt.Sprint(i)})
		rev := fmt.Sprint("locals/", i)
		d.send(rev)
		d.command(api.OpLocalRun, rev)
		d.ends(rev, want)
	}
	used := func() (routines, mounts int) {
		text, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		return runtime.NumGoroutine(), strings.Count(string(text), d.dir)
	}
	const updates = 16
	for i := range 3 {
		change(i + 1)
	}
	routines, mounts := used()
	for i := range updates {
		change(i + 4)
	}
	if r, m := used(); r > routines+5 || m != mounts {
		t.Errorf("after %d updates there are %d goroutines and %d mounts, before %d and %d", updates, r, m, routines, mounts)
	}
	if n := len(d.s.revs.inUse()); n > 2 { // mgmt goes on with the files of revision 0
		t.Errorf("%d revisions are in use", n)
	}
	d.off()
}

// TestLastLines wants the end of a terminal's output, without what a line's end has there, and
// without half a line at its beginning.
func TestLastLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "console.log")
	if err := os.WriteFile(path, []byte(strings.Repeat("x", maxLastBytes)+"\r\nfirst\r\n\r\nlast\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := lastLines(path); !slices.Equal(got, []string{"first", "last"}) {
		t.Errorf("%q", got)
	}
}

// TestEndsOfAContainer wants what a container wrote itself, however often it was started, and how it
// ended.
func TestEndsOfAContainer(t *testing.T) {
	lines := func(name string, n int) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprint(name, i+1))
		}
		return list
	}
	for _, tt := range []struct {
		container, launcher int
		want                string
	}{
		{10, 10, "[c3 c4 c5 c6 c7 c8 c9 c10 l9 l10]"},
		{3, 10, "[c1 c2 c3 l4 l5 l6 l7 l8 l9 l10]"},
		{0, 10, "[l1 l2 l3 l4 l5 l6 l7 l8 l9 l10]"},
		{10, 1, "[c2 c3 c4 c5 c6 c7 c8 c9 c10 l1]"},
		{10, 0, "[c1 c2 c3 c4 c5 c6 c7 c8 c9 c10]"},
		{0, 0, "[]"},
	} {
		if got := fmt.Sprint(ends(lines("c", tt.container), lines("l", tt.launcher))); got != tt.want {
			t.Errorf("%d and %d lines: %s, want %s", tt.container, tt.launcher, got, tt.want)
		}
	}
}

package init

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/handoff"
	"github.com/pantavisor/pantavisor/runtime/logs"
)

// scenes run in this test binary as process 1 of new namespaces; see [inside].
var scenes = map[string]func() error{"orphans": sceneOrphans, "kill": sceneKill, "unmount": sceneUnmount, "mounts": sceneMounts, "watchdog": sceneWatchdog}

func TestMain(m *testing.M) {
	if os.Args[0] == "pantavisor" { // what process 1 of a scene starts
		if os.Args[1] == "engine" {
			os.Exit(busyEngine())
		}
		os.Exit(0)
	}
	if name := os.Getenv("PV_TEST_SCENE"); name != "" {
		if err := scenes[name](); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// inside runs a scene as process 1 of a new PID and mount namespace, with additions to its
// environment.
func inside(t *testing.T, scene string, env ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for namespaces")
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(append(os.Environ(), "PV_TEST_SCENE="+scene, "PV_TEST_DIR="+t.TempDir()), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, unix.EPERM) {
		t.Skipf("needs namespaces: %v", err)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestReaperTakesOrphans(t *testing.T)  { inside(t, "orphans") }
func TestKillAllLeavesNobody(t *testing.T) { inside(t, "kill") }
func TestUnmountBelow(t *testing.T)        { inside(t, "unmount") }
func TestEarlyMountsAndPivot(t *testing.T) { inside(t, "mounts") }

// startScene makes a machine that reaps.
func startScene() *machine {
	m := newMachine(nil)
	m.reaper = newReaper()
	died := make(chan os.Signal, 1)
	signal.Notify(died, unix.SIGCHLD)
	go m.reaper.run(died)
	return m
}

func (r *reaper) sh(script string) (<-chan syscall.WaitStatus, error) {
	_, done, err := r.Spawn("/bin/sh", []string{"sh", "-c", script}, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
	return done, err
}

// wantError tells what was done when it did not end with the wanted error.
func wantError(doing string, got, want error) error {
	if errors.Is(got, want) {
		return nil
	}
	return fmt.Errorf("%s: got error %q, want %q", doing, fmt.Sprint(got), want.Error())
}

// sceneOrphans: a child's status arrives, and its orphan is taken in and reaped.
func sceneOrphans() error {
	r := startScene().reaper
	done, err := r.sh("(sleep 0.1; exit 3) & exit 42")
	if err != nil {
		return err
	}
	if ws := <-done; ws.ExitStatus() != 42 {
		return fmt.Errorf("status %v, want 42", describe(ws))
	}
	<-r.alone() // only when the orphan has been reaped too
	_, err = syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
	if err := wantError("waiting for nobody", err, syscall.ECHILD); err != nil {
		return err
	}
	_, _, err = r.Spawn("/nonexistent", nil, &syscall.ProcAttr{})
	return wantError("starting nothing", err, os.ErrNotExist)
}

// sceneKill: who asks politely is obeyed, a stopped process is woken to hear it.
func sceneKill() error {
	m := startScene()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	_, polite, err := m.reaper.Spawn("/bin/sh", []string{"sh", "-c", "trap 'exit 5' TERM; echo go; while :; do sleep 0.05; done"},
		&syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, w.Fd(), 2}})
	if err != nil {
		return err
	}
	if _, err := r.Read(make([]byte, 3)); err != nil {
		return err
	}
	stopped, err := m.reaper.sh("kill -STOP $$")
	if err != nil {
		return err
	}
	m.killAll()
	if ws := <-polite; ws.ExitStatus() != 5 {
		return fmt.Errorf("the polite one: %s, want exit code 5", describe(ws))
	}
	if ws := <-stopped; !ws.Signaled() && ws.ExitStatus() != 0 {
		return fmt.Errorf("the stopped one: %s", describe(ws))
	}
	if err := wantError("looking for somebody left", unix.Kill(-1, 0), unix.ESRCH); err != nil {
		return err
	}
	m.killAll() // nobody there: returns at once
	return nil
}

// sceneUnmount: nested and oddly named mounts go, a busy one is named.
func sceneUnmount() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	root := os.Getenv("PV_TEST_DIR")
	outer := filepath.Join(root, `a b\c`)
	for _, d := range []string{outer, filepath.Join(outer, "in")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("none", d, "tmpfs", 0, ""); err != nil {
			return err
		}
	}
	if left := unmountBelow(root); len(left) != 0 {
		return fmt.Errorf("left: %q", left)
	}
	mounts, err := readMounts("/proc/thread-self/mountinfo")
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if strings.HasPrefix(m.target, root) {
			return fmt.Errorf("%q is still mounted", m.target)
		}
	}
	return nil
}

// sceneMounts: in a root of its own every early mount works, and pivot_root does.
func sceneMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	dir := os.Getenv("PV_TEST_DIR")
	if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
		return err
	}
	if err := unix.Chdir(dir); err != nil {
		return err
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	for _, e := range earlyMountList {
		if e.typ == "devtmpfs" || e.typ == "cgroup2" || e.optional {
			continue // the host's own instance is not for a test to touch
		}
		if err := e.mount(); err != nil {
			return err
		}
		if err := e.mount(); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("a second time: %w", err)
		}
	}
	if busyTicks("/proc/stat") == 0 {
		return errors.New("no CPU time in /proc/stat")
	}
	return nil
}

func TestVerdict(t *testing.T) {
	exit := func(code int) syscall.WaitStatus { return syscall.WaitStatus(code << 8) }
	tests := []struct {
		status syscall.WaitStatus
		want   outcome
	}{
		{exit(handoff.ExitReboot), outcome{reboot, "the engine asks for it", false}},
		{exit(handoff.ExitPowerOff), outcome{powerOff, "the engine asks for it", false}},
		{exit(1), outcome{reboot, "the engine ended unexpectedly: exit code 1", true}},
		{syscall.WaitStatus(9), outcome{reboot, "the engine ended unexpectedly: killed by signal 9 (killed)", true}},
		{syscall.WaitStatus(0x80 | 11), outcome{reboot, "the engine ended unexpectedly: killed by signal 11 (segmentation fault, core dumped)", true}},
	}
	for _, tc := range tests {
		if diff := cmp.Diff(tc.want, (&engine{}).verdict(tc.status), cmp.AllowUnexported(outcome{})); diff != "" {
			t.Errorf("%#x (-want +got):\n%s", uint32(tc.status), diff)
		}
	}
}

// TestVerdictOfAnAskedEngine: a signal may come before the engine has taken it over.
func TestVerdictOfAnAskedEngine(t *testing.T) {
	asked := &engine{stopAt: make(chan time.Time), want: powerOff}
	want := outcome{powerOff, "asked for before the engine could hear it", false}
	if got := asked.verdict(syscall.WaitStatus(unix.SIGINT)); got != want {
		t.Errorf("got %+v", got)
	}
	if got := asked.verdict(syscall.WaitStatus(unix.SIGSEGV)); !got.failed {
		t.Errorf("a crash while it stops: %+v", got)
	}
	if got := (&engine{}).verdict(syscall.WaitStatus(unix.SIGINT)); !got.failed {
		t.Errorf("a signal of somebody else: %+v", got)
	}
}

func TestAskedBy(t *testing.T) {
	for s, want := range map[os.Signal]action{unix.SIGINT: reboot, unix.SIGTERM: reboot, unix.SIGUSR1: powerOff, unix.SIGUSR2: powerOff, unix.SIGPWR: powerOff} {
		if got := askedBy(s); got != want {
			t.Errorf("%v: %v, want %v", s, got, want)
		}
	}
}

// records reads what the engine would get.
func records(t *testing.T, j *journal) []handoff.Record {
	t.Helper()
	_ = unix.SetNonblock(j.reader, true)
	buf := make([]byte, 1<<20)
	n := 0
	for {
		k, err := unix.Read(j.reader, buf[n:])
		if err != nil || k == 0 {
			break
		}
		n += k
	}
	var out []handoff.Record
	for _, line := range bytes.Split(bytes.TrimSpace(buf[:n]), []byte("\n")) {
		var r handoff.Record
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		out = append(out, r)
	}
	return out
}

func newSilentJournal(t *testing.T) *journal {
	t.Helper()
	j := newJournal()
	j.console = -1
	t.Cleanup(func() { _ = unix.Close(j.reader); _ = unix.Close(j.pipe) })
	return j
}

func TestJournalHandsOver(t *testing.T) {
	j := newSilentJournal(t)
	log := logs.Logger{Sink: j, Source: "storage"}
	log.Debugf("not at this level")
	log.Warnf("two\nlines")
	log.Infof("%s", strings.Repeat("x", 10000))
	got := records(t, j)
	if len(got) != 3 || got[0].Msg != "two" || got[1].Msg != "lines" || got[1].Source != "storage" || got[1].Level != int(logs.Warn) || got[0].T <= 0 {
		t.Fatalf("records %+v", got)
	}
	if !strings.HasSuffix(got[2].Msg, "[cut]") {
		t.Errorf("the long one ends with %q", got[2].Msg[len(got[2].Msg)-10:])
	}
	j.setLevel(logs.Debug)
	log.Debugf("at this level")
	if got := records(t, j); len(got) != 1 {
		t.Errorf("records %+v", got)
	}
}

func TestJournalSaysWhatTheConsoleHas(t *testing.T) {
	j := newSilentJournal(t)
	console, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close()
	defer w.Close()
	log := logs.Logger{Sink: j, Source: "boot"}
	log.Infof("nowhere") // there is no console yet
	j.console, j.level = int(w.Fd()), logs.Debug
	log.Infof("here")
	log.Debugf("for the files only")
	var shown []bool
	for _, r := range records(t, j) {
		shown = append(shown, r.Shown)
	}
	if diff := cmp.Diff([]bool{false, true, false}, shown); diff != "" {
		t.Errorf("shown (-want +got):\n%s", diff)
	}
	w.Close()
	if got, _ := io.ReadAll(console); string(got) != "pantavisor: INFO: boot: here\r\n" {
		t.Errorf("console = %q", got)
	}
}

func TestJournalNeverBlocksAndCounts(t *testing.T) {
	j := newSilentJournal(t)
	const many = 5000
	for i := range many {
		j.Log("", "init", logs.Info, fmt.Sprintf("%d %s", i, strings.Repeat("y", 200)))
	}
	kept := records(t, j)
	j.Log("", "init", logs.Info, "after")
	got := records(t, j)
	if len(got) != 2 || got[1].Msg != "after" {
		t.Fatalf("records %+v", got)
	}
	if want := fmt.Sprintf("%d messages of process 1 were lost", many-len(kept)); got[0].Msg != want {
		t.Errorf("%q, want %q", got[0].Msg, want)
	}
}

func TestRelaySortsByLevel(t *testing.T) {
	j := newSilentJournal(t)
	j.setLevel(logs.Debug)
	said := debugMark + "loading module acpi_cpufreq: no such device\nloading module x: exec format error\n"
	if err := relay(io.NopCloser(strings.NewReader(said)), logs.Logger{Sink: j, Source: "modules"}); err != nil {
		t.Error(err)
	}
	got := records(t, j)
	if len(got) != 2 || got[0].Level != int(logs.Debug) || strings.Contains(got[0].Msg, "<") || got[1].Level != int(logs.Warn) {
		t.Errorf("%+v, want a message for the debug log and a warning", got)
	}
}

func TestBusyTicks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stat")
	for content, want := range map[string]uint64{
		"cpu  1 2 4 1000 2000 8 16 32 64 128\ncpu0 9": 63,
		"cpu 1 2": 0, "": 0, "cpu a b c d e f g h i": 0,
	} {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := busyTicks(path); got != want {
			t.Errorf("%q: %d, want %d", content, got, want)
		}
	}
}

func TestReadMounts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mountinfo")
	text := "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw\n24 1 0:5 / / rw - tmpfs tmpfs rw\nbroken\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := readMounts(path)
	if diff := cmp.Diff([]mount{{"/mnt 2", "ext3"}, {"/", "tmpfs"}}, got, cmp.AllowUnexported(mount{})); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func TestReadParts(t *testing.T) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	release := unix.ByteSliceToString(u.Release[:])
	tests := []struct {
		name, json string
		want       []part
		bad        bool
	}{
		{"all", `{"linux":"kernel.img","modules":"m.squashfs","firmware":"f.squashfs"}`, []part{{"m.squashfs", "/lib/modules"}, {"f.squashfs", "/lib/firmware"}}, false},
		{"this kernel's", `{"modules":"m","modules_` + release + `":"mine"}`, []part{{"mine", "/lib/modules/" + release}}, false},
		{"none", `{"addons":[]}`, nil, false},
		{"out of the BSP", `{"modules":"../../../etc/shadow"}`, nil, true},
		{"absolute", `{"firmware":"/etc/shadow"}`, nil, true},
		{"no name", `{"modules":["a"]}`, nil, true},
		{"no JSON", `{`, nil, true},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got, err := readParts([]byte(tc.json))
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(part{})); diff != "" || (err != nil) != tc.bad {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

// TestPartsAreCheckedBeforeTheyAreMounted changes the modules of a revision in every place
// that they could be taken from; none is mounted. What is to be mounted is read from the
// state, not from the directory.
func TestPartsAreCheckedBeforeTheyAreMounted(t *testing.T) {
	t.Parallel()
	const content = "modules"
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte(content)))
	for name, c := range map[string]struct {
		change func(storage string) error
		want   string
	}{
		"file replaced": {func(dir string) error {
			p := filepath.Join(dir, "trails/1/bsp/modules.squashfs")
			return errors.Join(os.Remove(p), os.WriteFile(p, []byte("evil"), 0o644))
		}, "not of object"},
		"object changed": {func(dir string) error { return os.WriteFile(filepath.Join(dir, "objects", sum), []byte("evil"), 0o644) }, sum},
		"object missing": {func(dir string) error { return os.Remove(filepath.Join(dir, "objects", sum)) }, "is missing"},
		"other list": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "trails/1/bsp/run.json"), []byte(`{"modules":"evil"}`), 0o644)
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			m := &machine{storage: dir, config: config.New()}
			m.running.Rev = "1"
			doc := `{"#spec":"pantavisor-service-system@1","bsp/modules.squashfs":"` + sum + `","bsp/run.json":{"modules":"modules.squashfs","firmware":"none"}}`
			object, link := filepath.Join(dir, "objects", sum), filepath.Join(dir, "trails/1/bsp/modules.squashfs")
			if err := errors.Join(os.MkdirAll(filepath.Dir(object), 0o755), os.MkdirAll(filepath.Dir(link), 0o755), os.MkdirAll(filepath.Join(dir, "trails/1/.pvr"), 0o755),
				os.WriteFile(object, []byte(content), 0o644), os.Link(object, link), os.WriteFile(filepath.Join(dir, "trails/1/.pvr/json"), []byte(doc), 0o644), c.change(dir)); err != nil {
				t.Fatal(err)
			}
			files, parts, err := m.bspParts()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]part{{"modules.squashfs", "/lib/modules"}, {"none", "/lib/firmware"}}, parts, cmp.AllowUnexported(part{})); diff != "" {
				t.Error(diff)
			}
			if err := m.mountPart(t.Context(), files, parts[1]); err == nil || !strings.Contains(err.Error(), "bsp/none: the revision has no such object") {
				t.Errorf("a file without object: %v", err)
			}
			if c.want == "" {
				return
			}
			if err := m.mountPart(t.Context(), files, parts[0]); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "it is not mounted") {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestBackgroundPanicEndsInOrder(t *testing.T) {
	m := newMachine(nil)
	m.background("test", func() error { panic("oh") })
	if reason := <-m.crashed; !strings.HasPrefix(reason, "defect in test: oh") {
		t.Errorf("reason %q", reason)
	}
}

func TestRunIsForProcess1(t *testing.T) {
	var out bytes.Buffer
	if code := Run(t.Context(), nil, nil, nil, &out); code != 1 || !strings.Contains(out.String(), "process 1") {
		t.Errorf("code %d, %q", code, out.String())
	}
}

func TestEnvironmentReplacesRevision(t *testing.T) {
	t.Setenv("pv_rev", "9")
	m := newMachine(nil)
	m.running.Rev = "4"
	n := 0
	for _, e := range m.environment(3, 4) {
		if strings.HasPrefix(e, "pv_rev=") {
			n++
			if e != "pv_rev=4" {
				t.Errorf("%s", e)
			}
		}
	}
	if n != 1 {
		t.Errorf("pv_rev is there %d times", n)
	}
}

package updater

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/revision/compat"
	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/boot"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/engine"
	"github.com/pantavisor/pantavisor/runtime/logs"
	"github.com/pantavisor/pantavisor/runtime/step"
)

// machine is a device whose boot loader is [boot.Pick] and whose containers do what the
// test says.
type machine struct {
	t     *testing.T
	dir   string
	store boot.Store
	steps *step.Store
	delay time.Duration

	u      *Updater
	down   func()
	ended  chan struct{}
	rev    string
	trial  bool
	calls  []string
	refuse map[string]error // by call, as "space" or "hook system-start"
	broken map[string]bool  // revisions whose containers fail
	mute   bool             // the engine reports nothing
	below  []engine.Failure // of every revision
	said   func(msg string) // sees the log; may be nil
	hang   bool             // installing takes until the device goes down
	trials int
}

// memory returns a directory in memory, where there is one. On a disk the loader's store
// waits for other processes that freeze the file system, in time that the test does not have.
func memory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "updater-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func newMachine(t *testing.T) *machine {
	dir := memory(t)
	store, err := boot.Open("grub", dir)
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, dir: dir, store: store, steps: step.Open(dir), delay: time.Second, refuse: map[string]error{}, broken: map[string]bool{}}
	m.put("0", "1")
	return m
}

// A revision's state is one line for each container: "NAME VERSION POLICY".
func (m *machine) put(rev string, bsp string, containers ...string) {
	m.t.Helper()
	st := state.New(state.Spec)
	set := func(key, text string) {
		if err := st.Set(key, []byte(text)); err != nil {
			m.t.Fatal(err)
		}
	}
	set("bsp/run.json", fmt.Sprintf(`{"version":%q}`, bsp))
	for _, c := range containers {
		f := strings.Fields(c)
		set(f[0]+"/run.json", fmt.Sprintf(`{"version":%q,"policy":%q}`, f[1], f[2]))
	}
	if err := m.steps.Put(rev, st.Encode()); err != nil {
		m.t.Fatal(err)
	}
}

// boot starts the device and reports whether the revision may run.
func (m *machine) boot() bool {
	m.t.Helper()
	rev, err := boot.Pick(m.store)
	if err != nil {
		m.t.Fatal(err)
	}
	return m.bootOf(rev)
}

// bootOf starts the device with the revision that the loader has picked.
func (m *machine) bootOf(rev string) bool {
	m.t.Helper()
	values, err := m.store.Load()
	if err != nil {
		m.t.Fatal(err)
	}
	j, err := OpenJournal(m.dir)
	if err != nil {
		m.t.Fatal(err)
	}
	m.rev, m.trial = rev, false
	m.u = New(Options{
		Running: boot.Decide(rev, values), Store: m.store, Steps: m.steps, Journal: j, Device: m,
		Settings: func() Settings { return Settings{CommitDelay: m.delay, Trials: m.trials} },
		Log:      logs.Logger{Sink: m, Source: "updater"},
	})
	if !m.u.Resume() {
		return false
	}
	ctx, cancel := context.WithCancelCause(m.t.Context())
	m.down, m.ended = func() { cancel(errors.New("the power is off")) }, make(chan struct{})
	m.report()
	go func() {
		defer close(m.ended)
		_ = m.u.Run(ctx)
	}()
	synctest.Wait()
	return true
}

// off takes the power away.
func (m *machine) off() {
	m.down()
	<-m.ended
}

// restarts boots until a revision runs.
func (m *machine) restarts() {
	m.t.Helper()
	m.off()
	for range 5 {
		if m.boot() {
			return
		}
	}
	m.t.Fatal("no revision runs after five boots")
}

// exhaust boots until a revision is tried no more.
func (m *machine) exhaust(rev string) {
	m.t.Helper()
	for range 10 {
		if m.restarts(); m.rev != rev {
			return
		}
	}
	m.t.Fatalf("revision %s runs after ten boots", rev)
}

// report is what the engine says once the containers of the revision were started.
func (m *machine) report() {
	if m.mute {
		return
	}
	o := engine.Outcome{Revision: m.rev, All: 1, Reached: 1}
	if m.broken[m.rev] {
		m.u.Failed(engine.Failure{Revision: m.rev, Container: "app", Goal: "STARTED", Status: "STOPPED", Reason: "exited with code 3"})
		o.Reached = 0
		o.Below = []engine.Failure{{Revision: m.rev, Container: "app", Reason: "exited with code 3"}}
	}
	for _, f := range m.below {
		f.Revision = m.rev
		o.Below = append(o.Below, f)
	}
	m.u.Settled(o)
	m.u.Stable(true)
}

func (m *machine) call(format string, args ...any) error {
	c := fmt.Sprintf(format, args...)
	m.calls = append(m.calls, c)
	return m.refuse[c]
}

func (m *machine) Load(rev string) (*state.State, *manifest.System, error) {
	doc, err := m.steps.State(rev)
	if err != nil {
		return nil, nil, err
	}
	st, err := state.Parse(doc)
	if err != nil {
		return nil, nil, err
	}
	sys := &manifest.System{}
	for _, key := range st.Keys() {
		name, ok := strings.CutSuffix(key, "/run.json")
		if text, _ := st.Get(key); ok && name != "bsp" {
			policy := manifest.RestartContainer
			if strings.Contains(string(text), "system") {
				policy = manifest.RestartSystem
			}
			sys.Containers = append(sys.Containers, manifest.Container{Name: name, Restart: policy})
		}
	}
	return st, sys, nil
}

func (m *machine) Install(ctx context.Context, rev string, _ *state.State) error {
	if m.hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return m.call("install %s", rev)
}

func (m *machine) Space(string, *state.State) error { return m.refuse["space"] }

func (m *machine) Loader(*state.State) error { return m.refuse["loader"] }

func (m *machine) Compatible(*state.State, *manifest.System) error { return m.refuse["compatibility"] }

func (m *machine) Swap(rev string, changed []string) error {
	if err := m.call("swap %s %v", rev, changed); err != nil {
		return err
	}
	m.rev = rev
	m.report()
	return nil
}

func (m *machine) Trial(on bool) { m.trial = on }

func (m *machine) Restart(string) error { return m.call("restart") }

func (m *machine) Hook(_ context.Context, event string, h Hook) error {
	return m.refuse["hook "+event]
}

func (m *machine) Output(_, container string) []string { return []string{"last words of " + container} }

func (m *machine) Wake(bool) {}

// Log implements logs.Sink.
func (m *machine) Log(_, source string, level logs.Level, msg string) {
	m.t.Helper()
	m.t.Logf("%v %s: %s", level, source, msg)
	if m.said != nil {
		m.said(msg)
	}
}

// start begins an update and waits until nothing moves any more.
func (m *machine) start(rev string, mode Mode) {
	m.t.Helper()
	if err := m.u.Start(m.t.Context(), Request{Revision: rev, Mode: mode}); err != nil {
		m.t.Fatal(err)
	}
	m.settle()
}

func (m *machine) settle() {
	time.Sleep(2 * m.delay)
	synctest.Wait()
}

// path is what the journal says of the last update of a revision.
func (m *machine) path(rev string) (out []string) {
	for _, up := range m.u.Updates() {
		if up.Revision != rev {
			continue
		}
		out = nil
		for _, s := range up.Path {
			out = append(out, s.Status+" "+s.Message)
		}
	}
	return out
}

func (m *machine) failure(rev string) *api.UpdateFailure {
	var f *api.UpdateFailure
	for _, up := range m.u.Updates() {
		if up.Revision == rev {
			f = up.Failure
		}
	}
	return f
}

// expect compares what the loader's store, the journal and the progress say.
func (m *machine) expect(running string, values boot.Values, rev string, status Status, path ...string) {
	m.t.Helper()
	got, err := m.store.Load()
	if err != nil {
		m.t.Fatal(err)
	}
	if m.rev != running || got != values {
		m.t.Errorf("%q runs, the store has %+v; want %q and %+v", m.rev, got, running, values)
	}
	if diff := cmp.Diff(path, m.path(rev)); diff != "" {
		m.t.Errorf("journal of %s: want(-), got(+):\n%s", rev, diff)
	}
	p, err := m.steps.Progress(rev)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.t.Fatal(err)
	}
	if p.Status != string(status) {
		m.t.Errorf("progress of %s is %s, want %s", rev, p.Status, status)
	}
	if err := m.u.Ongoing(); err != nil {
		m.t.Error(err)
	}
}

const (
	wasInstalled = "INPROGRESS Update objects downloaded"
	wasSwapped   = "INPROGRESS Transitioning to new revision without rebooting"
	wasRestarted = "INPROGRESS Rebooting"
	isUnexpected = "ERROR Unexpected rollback"
	wasTried     = "INPROGRESS Trying new revision"
	awaitStable  = "TESTING Awaiting to see if update is stable"
	awaitCommit  = "TESTING Awaiting to set rollback point if update is stable"
	isUpdated    = "UPDATED Update finished, revision not set as rollback point"
	isDone       = "DONE Update finished, revision set as rollback point"
)

// onMachine runs a test on a device that runs revision 0.
func onMachine(t *testing.T, test func(t *testing.T, m *machine)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		if !m.boot() {
			t.Fatal("revision 0 does not run")
		}
		test(t, m)
		m.off()
	})
}

func TestFactoryIsMarked(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		p, err := m.steps.Progress("0")
		if want := (step.Progress{Status: "DONE", Message: "Factory revision", Percent: 100}); p != want || err != nil || !m.steps.Done("0") {
			t.Errorf("progress is %+v, %v", p, err)
		}
	})
}

func TestUpdateWithoutRestart(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.put("locals/a", "1", "app 1 container")
		m.start("locals/a", Run)
		m.expect("locals/a", boot.Values{Try: "locals/a"}, "locals/a", Updated, wasInstalled, wasSwapped, awaitStable, isUpdated)
		if want := []string{"install locals/a", "swap locals/a [app]"}; !slices.Equal(m.calls, want) || m.trial {
			t.Errorf("calls are %q, trial %v", m.calls, m.trial)
		}
		m.restarts() // the next boot tries it and commits it
		m.settle()
		m.expect("locals/a", boot.Values{Rev: "locals/a"}, "locals/a", Done,
			wasInstalled, wasSwapped, awaitStable, isUpdated, wasTried, awaitCommit, isDone)
		if !m.steps.Done("locals/a") {
			t.Error("it is not marked as done")
		}
	})
}

func TestUpdateWithRestart(t *testing.T) {
	for _, c := range []struct {
		name string
		mode Mode
		put  func(m *machine)
	}{
		{"BSP", Run, func(m *machine) { m.put("n", "2") }},
		{"system container", Run, func(m *machine) { m.put("n", "1", "net 1 system") }},
		{"asked for", RunCommit, func(m *machine) { m.put("n", "1", "app 1 container") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			onMachine(t, func(t *testing.T, m *machine) {
				c.put(m)
				m.start("n", c.mode)
				if got := m.u.Ongoing(); !errors.Is(got, errOngoing) {
					t.Errorf("before the restart an update is not ongoing: %v", got)
				}
				m.restarts()
				m.settle()
				m.expect("n", boot.Values{Rev: "n"}, "n", Done, wasInstalled, wasRestarted, wasTried, awaitCommit, isDone)
			})
		})
	}
}

func TestContainerThatFailsAfterRestart(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.put("n", "2", "app 1 container")
		m.broken["n"] = true
		m.start("n", Run)
		m.restarts()
		m.settle()
		if want := []string{"install n", "restart", "restart"}; !slices.Equal(m.calls, want) {
			t.Errorf("calls are %q", m.calls)
		}
		m.restarts()
		m.settle()
		m.expect("0", boot.Values{}, "n", Error, wasInstalled, wasRestarted, wasTried, "ERROR A container could not be started")
		f := m.failure("n")
		if f == nil || f.Container != "app" || f.Exit != "exited with code 3" || !slices.Equal(f.Log, []string{"last words of app"}) {
			t.Errorf("the reason is %+v", f)
		}
		// The reason is still there after the next update.
		m.put("o", "1", "other 1 container")
		m.start("o", Run)
		if m.failure("n") == nil {
			t.Error("the reason is lost")
		}
		p, err := m.steps.Progress("n")
		if err != nil || !strings.Contains(p.Logs, `"msg":"last words of app"`) {
			t.Errorf("the progress has logs %q, %v", p.Logs, err)
		}
	})
}

func TestContainerThatFailsWithoutRestart(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.put("n", "1", "app 1 container")
		m.broken["n"] = true
		m.start("n", Run)
		m.expect("0", boot.Values{}, "n", Error, wasInstalled, wasSwapped, "ERROR A container could not be started")
		if want := []string{"install n", "swap n [app]", "swap 0 [app]"}; !slices.Equal(m.calls, want) || m.trial {
			t.Errorf("calls are %q", m.calls)
		}
		m.restarts()
		m.expect("0", boot.Values{}, "n", Error, wasInstalled, wasSwapped, "ERROR A container could not be started")
	})
}

// TestUpdatedRevisionThatFailsLater starts a revision anew that waits for its commit: once it has
// failed, the loader does not try it.
func TestUpdatedRevisionThatFailsLater(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.put("n", "1", "app 1 container")
		m.start("n", Run)
		if v, err := m.store.Load(); err != nil || v.Try != "n" {
			t.Fatalf("the store has %+v, %v", v, err)
		}
		m.broken["n"] = true
		m.start("n", Run)
		if v, err := m.store.Load(); err != nil || v.Try != "" {
			t.Errorf("the store has %+v, %v", v, err)
		}
	})
}

func TestPowerIsLostDuringTest(t *testing.T) {
	for _, c := range []struct {
		name, bsp string
		path      []string
	}{
		{"after a restart", "2", []string{wasInstalled, wasRestarted, wasTried}},
		{"without one", "1", []string{wasInstalled, wasSwapped}},
	} {
		t.Run(c.name, func(t *testing.T) {
			onMachine(t, func(t *testing.T, m *machine) {
				m.put("n", c.bsp, "app 1 container")
				m.mute = true
				m.start("n", Run)
				if c.bsp == "2" {
					m.restarts()
				}
				m.mute = false
				m.restarts()
				m.settle()
				m.expect("0", boot.Values{}, "n", Error, append(c.path, isUnexpected)...)
			})
		})
	}
}

// TestTrials counts the boots of a revision that never says a word.
func TestTrials(t *testing.T) {
	for _, c := range []struct {
		name, bsp string
		mode      Mode
		trials    int
		path      []string
	}{
		{"one", "2", Run, 1, []string{wasInstalled, wasRestarted, wasTried, isUnexpected}},
		{"once", "2", TryOnce, 3, []string{wasInstalled, wasRestarted, wasTried, isUnexpected}},
		{"three", "2", RunCommit, 3, []string{
			wasInstalled, wasRestarted, wasTried, wasRestarted + ", trial 2 of 3", wasTried, wasRestarted + ", trial 3 of 3", wasTried, isUnexpected,
		}},
		{"of what ran without a restart", "1", Run, 2, []string{
			wasInstalled, wasSwapped, awaitStable, isUpdated, wasTried, wasRestarted + ", trial 2 of 2", wasTried, isUnexpected,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			onMachine(t, func(t *testing.T, m *machine) {
				m.put("n", c.bsp, "app 1 container")
				m.trials, m.mute = c.trials, c.bsp == "2"
				m.start("n", c.mode)
				m.mute = true
				m.exhaust("n")
				m.expect("0", boot.Values{}, "n", Error, c.path...)
				m.mute = false
				m.restarts()
				m.expect("0", boot.Values{}, "n", Error, c.path...)
				if f := m.failure("n"); f == nil || strings.HasPrefix(f.Text, fmt.Sprintf("in %d trials", c.trials)) != (strings.Contains(c.path[len(c.path)-3], "trial")) {
					t.Errorf("failure %+v", f)
				}
			})
		})
	}
}

// TestLaterTrialIsGood commits a revision in its second trial; the next update has all trials again.
func TestLaterTrialIsGood(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.put("n", "2", "app 1 container")
		m.trials, m.mute = 2, true
		m.start("n", Run)
		m.restarts()
		m.off()
		if m.boot() {
			t.Fatal("revision 0 runs before the second trial")
		}
		m.mute = false
		if !m.boot() {
			t.Fatal("the second trial does not run")
		}
		m.settle()
		again := wasRestarted + ", trial 2 of 2"
		m.expect("n", boot.Values{Rev: "n"}, "n", Done, wasInstalled, wasRestarted, wasTried, again, wasTried, awaitCommit, isDone)
		m.mute = true
		m.put("o", "3", "app 1 container")
		m.start("o", Run)
		m.exhaust("o")
		m.expect("n", boot.Values{Rev: "n"}, "o", Error, wasInstalled, wasRestarted, wasTried, again, wasTried, isUnexpected)
	})
}

// TestTrialOfAFailure does not try a revision again that has said why it failed.
func TestTrialOfAFailure(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.put("n", "2", "app 1 container")
		m.trials, m.broken["n"] = 3, true
		m.start("n", Run)
		m.restarts()
		m.settle()
		m.restarts()
		m.expect("0", boot.Values{}, "n", Error, wasInstalled, wasRestarted, wasTried, "ERROR A container could not be started")
	})
}

// TestTrialWithoutALoader ends an update when the loader cannot be told of another trial.
func TestTrialWithoutALoader(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.put("n", "2", "app 1 container")
		m.trials, m.mute = 3, true
		m.start("n", Run)
		m.restarts()
		m.off()
		rev, err := boot.Pick(m.store)
		m.store = unwilling{m.store, "n"}
		if err != nil || !m.bootOf(rev) {
			t.Fatalf("the good revision does not run: %v", err)
		}
		m.expect("0", boot.Values{}, "n", Error, wasInstalled, wasRestarted, wasTried, wasRestarted+", trial 2 of 3", isUnexpected)
		if f := m.failure("n"); f == nil || strings.Contains(f.Text, "trials") {
			t.Errorf("the reason is %+v", f)
		}
	})
}

// damage is the error of an object that is missing.
func damage() error {
	st := state.New(state.Spec)
	_ = st.SetObject("app/root", strings.Repeat("0", 64))
	store, err := objects.Create(os.TempDir())
	if err != nil {
		return err
	}
	return (&step.Files{State: st, Store: store}).Install(context.Background())
}

func TestWhatIsRefused(t *testing.T) {
	for _, c := range []struct {
		name, rev string
		mode      Mode
		with      func(m *machine)
		message   string
	}{
		{"not stored", "never", Run, nil, "WONTGO State JSON not found"},
		{"no space", "n", Run, func(m *machine) { m.refuse["space"] = errors.New("Space required 7 B, available 5 B") }, "WONTGO Space required 7 B, available 5 B"},
		{"incompatible", "n", Run, func(m *machine) { m.refuse["compatibility"] = compat.Problems{{Part: "a"}} }, "WONTGO State JSON has incompatible parts"},
		{"object", "n", Run, func(m *machine) { m.refuse["install n"] = damage() }, "WONTGO Object validation went wrong"},
		{"hook", "n", Run, func(m *machine) { m.refuse["hook system-install-update"] = errors.New("exit 1") }, "WONTGO Internal error"},
		{"apply of a BSP", "n", Apply, nil, "WONTGO Internal error"},
	} {
		t.Run(c.name, func(t *testing.T) {
			onMachine(t, func(t *testing.T, m *machine) {
				m.put("n", "2")
				if c.with != nil {
					c.with(m)
				}
				m.start(c.rev, c.mode)
				status := WontGo
				if c.rev == "never" {
					status = ""
					if got := string(m.u.Progress("never")); got != `{"status":"WONTGO","status-msg":"State JSON not found","progress":100,"retries":0}` {
						t.Errorf("progress is %s", got)
					}
				}
				m.expect("0", boot.Values{}, c.rev, status, wasInstalled, c.message)
				if m.failure(c.rev) == nil {
					t.Error("no reason is told")
				}
			})
		})
	}
}

func TestApplyReplacesSystemContainers(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.put("n", "1", "net 1 system")
		m.start("n", Apply)
		m.expect("n", boot.Values{Try: "n"}, "n", Updated, wasInstalled, wasSwapped, awaitStable, isUpdated)
	})
}

func TestTryOnceGoesBack(t *testing.T) {
	for _, bsp := range []string{"1", "2"} {
		t.Run("bsp "+bsp, func(t *testing.T) {
			onMachine(t, func(t *testing.T, m *machine) {
				m.put("n", bsp, "app 1 container")
				m.start("n", TryOnce)
				path := []string{wasInstalled, wasSwapped, awaitStable, isUpdated}
				if bsp == "2" {
					m.restarts()
					m.settle()
					path = []string{wasInstalled, wasRestarted, wasTried, awaitCommit, isUpdated}
				}
				m.expect("n", boot.Values{}, "n", Updated, path...)
				m.restarts()
				m.settle()
				m.expect("0", boot.Values{}, "n", Updated, path...)
			})
		})
	}
}

func TestBackToCommittedRevision(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.put("n", "1", "app 1 container")
		m.start("n", Run)
		m.start("0", Run)
		m.expect("0", boot.Values{}, "0", Done, wasInstalled, wasSwapped, awaitStable, isDone)
	})
}

func TestOneUpdateAtATime(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.put("n", "1", "app 1 container")
		m.delay = time.Hour
		if err := m.u.Start(t.Context(), Request{Revision: "n", Mode: Run}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := m.u.Start(t.Context(), Request{Revision: "0", Mode: Run}); !errors.Is(err, errOngoing) {
			t.Errorf("a second update: %v", err)
		}
		if got := m.u.InUse(); !slices.Equal(got, []string{"0", "n"}) {
			t.Errorf("in use are %q", got)
		}
		m.settle()
		m.expect("n", boot.Values{Try: "n"}, "n", Updated, wasInstalled, wasSwapped, awaitStable, isUpdated)
	})
}

const (
	prepared = "QUEUED Update is being installed"
	waits    = "QUEUED Update ready, waiting for its time"
)

func TestWaitsForReboot(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.put("n", "1", "app 1 container")
		request := Request{Revision: "n", Mode: Run, When: "reboot"}
		if err := m.u.Start(t.Context(), request); err != nil {
			t.Fatal(err)
		}
		m.settle()
		staged := []string{prepared, "QUEUED Update installed, waiting for a reboot"}
		m.expect("0", boot.Values{Try: "n"}, "n", Queued, staged...)
		if err := m.u.Cancel(t.Context(), "n"); err != nil {
			t.Error(err)
		}
		m.expect("0", boot.Values{}, "n", Canceled, append(staged, "CANCELED Update aborted")...)
		if err := m.u.Cancel(t.Context(), "n"); err == nil {
			t.Error("it was cancelled twice")
		}
		if err := m.u.Start(t.Context(), request); err != nil {
			t.Fatal(err)
		}
		m.settle()
		m.restarts()
		m.settle()
		m.expect("n", boot.Values{Rev: "n"}, "n", Done, append(staged, wasTried, awaitCommit, isDone)...)
	})
}

func TestWaitsForTime(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.put("n", "1", "app 1 container")
		at := time.Now().Add(3 * time.Hour).Format("15:04")
		if err := m.u.Start(t.Context(), Request{Revision: "n", Mode: Run, When: at}); err != nil {
			t.Fatal(err)
		}
		m.settle()
		m.expect("0", boot.Values{}, "n", Queued, prepared, waits)
		m.restarts() // which does not start it
		m.expect("0", boot.Values{}, "n", Queued, prepared, waits)
		time.Sleep(3 * time.Hour)
		m.settle()
		m.expect("n", boot.Values{Try: "n"}, "n", Updated, prepared, waits, wasSwapped, awaitStable, isUpdated)
	})
}

// TestStagedThatCannotRun wants a staged update that fails to end before it is said to wait.
func TestStagedThatCannotRun(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.put("n", "1", "app 1 container")
		m.refuse["install n"] = damage()
		for _, when := range []string{"reboot", "03:00"} {
			if err := m.u.Start(t.Context(), Request{Revision: "n", Mode: Run, When: when}); err != nil {
				t.Fatal(err)
			}
			m.settle()
			m.expect("0", boot.Values{}, "n", WontGo, prepared, "WONTGO Object validation went wrong")
		}
	})
}

func TestRequestsThatAreRejected(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		for _, r := range []Request{{Revision: "../x", Mode: Run}, {Revision: "n", Mode: "fast"}, {Revision: "n", Mode: Run, When: "25:00"}, {Revision: "n", Mode: Run, When: "10:00-10:00"}} {
			var told *api.Error
			if err := m.u.Start(t.Context(), r); !errors.As(err, &told) || told.Status != 400 {
				t.Errorf("%+v: %v", r, err)
			}
		}
	})
}

// TestLoaderMissesCommit has the loader start the revision before one that is committed: it reads
// the file system without the journal that had the commit.
func TestLoaderMissesCommit(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.put("n", "2")
		m.mute = true
		m.start("n", Run)
		m.off()
		m.mute = false
		if !m.boot() || m.rev != "n" {
			t.Fatalf("revision %s runs", m.rev)
		}
		m.off()
		if err := m.store.Commit("n"); err != nil {
			t.Fatal(err)
		}
		if m.bootOf("0") {
			t.Error("revision 0 runs, though another one is committed")
		}
		if last := m.u.o.Journal.Last("n"); last.Status != Done || !m.steps.Done("n") {
			t.Errorf("revision n is %s", last.Status)
		}
		if !m.bootOf("0") {
			t.Error("revision 0, chosen by hand, must not run")
		}
		m.restarts()
		m.expect("n", boot.Values{Rev: "n"}, "n", Done, wasInstalled, wasRestarted, wasTried, awaitCommit, isDone)
	})
}

// TestProgressFollowsJournal loses the power between the record of a failure and the progress.
func TestProgressFollowsJournal(t *testing.T) {
	onMachine(t, func(t *testing.T, m *machine) {
		m.put("n", "1", "app 1 container")
		m.broken["n"] = true
		m.start("n", Run)
		if err := m.steps.SetProgress("n", Testing.progress(msgAwaitStable)); err != nil {
			t.Fatal(err)
		}
		m.restarts()
		if p, err := m.steps.Progress("n"); err != nil || p.Status != string(Error) || !strings.Contains(p.Logs, "last words of app") {
			t.Errorf("progress is %+v, %v", p, err)
		}
		// What was written without a sync may be left empty.
		if err := os.WriteFile(filepath.Join(m.steps.Dir("n"), ".pv/progress"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		m.restarts()
		if p, err := m.steps.Progress("n"); err != nil || p.Status != string(Error) {
			t.Errorf("progress is %+v, %v", p, err)
		}
		// A revision that is stored anew is ready to run, whatever became of its predecessor.
		m.put("n", "1", "app 2 container")
		m.restarts()
		if p, err := m.steps.Progress("n"); err != nil || p.Status != string(neverRun) {
			t.Errorf("progress is %+v, %v", p, err)
		}
	})
}

func TestJudge(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name           string
		r              boot.Running
		running, tried Status
		want           Verdict
	}{
		{"first time", boot.Running{Rev: "n", State: boot.Trying}, InProgress, InProgress, Verdict{Prove: true}},
		{"failed before", boot.Running{Rev: "n", State: boot.Trying}, Error, Error, Verdict{Refuse: true}},
		{"no word", boot.Running{Rev: "0", Try: "n", State: boot.RolledBack}, Done, Testing, Verdict{Unexpected: true}},
		{"with a word", boot.Running{Rev: "0", Try: "n", State: boot.RolledBack}, Done, Error, Verdict{}},
		{"lost journal", boot.Running{Rev: "0", Try: "n", State: boot.RolledBack}, "", "", Verdict{Unexpected: true, Factory: true}},
		{"committed", boot.Running{Rev: "n", Done: "n"}, Testing, "", Verdict{Committed: true}},
		{"committed with an error", boot.Running{Rev: "n", Done: "n"}, Error, "", Verdict{Committed: true}},
		{"recorded", boot.Running{Rev: "n", Done: "n"}, Done, "", Verdict{}},
		{"new", boot.Running{Rev: "0", Done: "0"}, "", "", Verdict{Factory: true}},
		{"by hand", boot.Running{Rev: "x", Done: "n", State: boot.Foreign}, "", Done, Verdict{}},
		{"commit not seen by the loader", boot.Running{Rev: "0", Done: "n", State: boot.Foreign}, Done, Testing, Verdict{Behind: true}},
	} {
		if got := Judge(c.r, c.running, c.tried); got != c.want {
			t.Errorf("%s: verdict %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestJournalAfterPowerCut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, err := OpenJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, rev := range []string{"a", "b"} {
		if _, err := j.Add(Record{Revision: rev, Status: InProgress}); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "updates", "journal")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first := strings.IndexByte(string(whole), '\n') + 1
	for cut := range len(whole) + 1 {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		want := 0
		if cut >= first {
			want = 1
		}
		if cut == len(whole) {
			want = 2
		}
		j, err := OpenJournal(dir)
		if err != nil || len(j.Records()) != want {
			t.Fatalf("cut at %d: %d records, %v; want %d", cut, len(j.Records()), err, want)
		}
		if _, err := j.Add(Record{Revision: "c", Status: Done}); err != nil {
			t.Fatal(err)
		}
		if j, err = OpenJournal(dir); err != nil || len(j.Records()) != want+1 || j.Last("").Revision != "c" {
			t.Fatalf("cut at %d, then written: %d records, %v", cut, len(j.Records()), err)
		}
	}
}

func TestJournalIsBounded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, err := OpenJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		r, err := j.Add(Record{Revision: "n", Status: InProgress, Message: strings.Repeat("x", 400)})
		if err == nil {
			_, err = j.Add(Record{Revision: "n", Began: r.Began, Status: Done})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(filepath.Join(dir, "updates", "journal"))
	if err != nil || info.Size() > maxJournal {
		t.Errorf("the journal has %d bytes, %v", info.Size(), err)
	}
	j, err = OpenJournal(dir)
	if err != nil || j.Last("").Seq != 2000 {
		t.Fatalf("the last record is %+v, %v", j.Last(""), err)
	}
	if r := j.Records()[0]; r.Seq != r.Began {
		t.Errorf("the first record %d belongs to update %d, whose beginning is gone", r.Seq, r.Began)
	}
}

// untrusted is an error of signatures, here because a file of certificates does not exist.
type untrusted struct{ error }

func (untrusted) Outcome() string { return "Signature validation failed" }
func (u untrusted) Unwrap() error { return u.error }

func TestMessage(t *testing.T) {
	for want, err := range map[string]error{
		"Signature validation failed": fmt.Errorf("checking: %w", untrusted{fs.ErrNotExist}),
		"State JSON not found":        fmt.Errorf("reading: %w", fs.ErrNotExist),
		"Internal error":              errors.New("of a memory"),
	} {
		if got := message(err); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}

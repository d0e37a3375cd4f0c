package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/runtime/handoff"
)

// told are the events of an engine, in order.
type told struct {
	mu   sync.Mutex
	list []string
}

func (e *told) add(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, fmt.Sprintf(format, args...))
}

// take returns the events since the last call.
func (e *told) take() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	defer func() { e.list = nil }()
	return strings.Join(e.list, "\n")
}

// listen records the engine's events.
func (s *fake) listen() *told {
	e := &told{}
	s.e.opt.Settled = func(o Outcome) {
		e.add("settled %s %d/%d", o.Revision, o.Reached, o.All)
		for _, f := range o.Below {
			e.add("below %s is %s: %s", f.Container, f.Status, f.Reason)
		}
	}
	s.e.opt.Failed = func(f Failure) {
		e.add("failed %s %s/%s goal %s is %s after %d: %s (%v)", f.Revision, f.Group, f.Container, f.Goal, f.Status, f.Retries, f.Reason, f.Timeout)
	}
	s.e.opt.Stable = func(yes bool) { e.add("stable %v", yes) }
	return e
}

// expect compares the events since the last time.
func (s *fake) expect(e *told, want ...string) {
	s.t.Helper()
	_ = s.e.call(func() error { return nil }) // after the events of what await has seen
	_ = s.e.call(func() error { return nil })
	if d := cmp.Diff(strings.Join(want, "\n"), e.take()); d != "" {
		s.t.Errorf("events (-want +got)\n%s", d)
	}
}

// revision is the fake as the backend of a revision: its calls have the revision's name.
type revision struct {
	*fake
	name string
}

func (r revision) Mount(ctx context.Context, c *manifest.Container) (Instance, error) {
	r.note("in " + r.name)
	return r.fake.Mount(ctx, c)
}

func (s *fake) transition(name string, changed []string, cs ...manifest.Container) {
	s.t.Helper()
	if err := s.e.Transition(Revision{Name: name, System: system(cs...), Backend: revision{s, name}}, changed); err != nil {
		s.t.Fatal(err)
	}
}

// calls returns the backend's calls since the last time.
func (s *fake) calls() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.log = nil }()
	return strings.Join(s.log, ",")
}

func TestTransition(t *testing.T) {
	t.Parallel()
	net, web := unitOf("net", "sys", manifest.Started, nil), unitOf("web", "app", manifest.Started, nil)
	old, other := unitOf("old", "sys", manifest.Started, nil), unitOf("other", "app", manifest.Started, nil)
	s := newFake(t, system(net, old, web))
	e := s.listen()
	s.e.opt.Adopted = func(rev string, ended []string) { s.note("adopted " + rev + fmt.Sprint(ended)) }
	s.run()
	s.await("net=STARTED", "old=STARTED", "web=STARTED")
	s.expect(e, "settled 0 3/3", "stable true")
	s.calls()
	kept := s.runs["net"]
	s.transition("1", []string{"web"}, net, web, other)
	s.await("net=STARTED", "other=STARTED", "web=STARTED")
	s.expect(e, "stable false", "settled 1 3/3", "stable true")
	got := s.calls()
	if want := "stop web,release web,stop old,release old,adopted 1[old web],in 1,"; !strings.HasPrefix(got, want) {
		t.Errorf("the backend was asked for %s, want it to begin with %s", got, want)
	}
	for what, n := range map[string]int{"mount web": 1, "start web": 1, "mount other": 1, "net": 0, "mount": 2} {
		if strings.Count(got, what) != n {
			t.Errorf("%q is not %d times in %s", what, n, got)
		}
	}
	if s.runs["net"] != kept {
		t.Error("an unaffected container was started again")
	}
	s.crash("net") // its events still count
	s.await("net=STOPPED", "other=STARTED", "web=STARTED")
	s.expect(e, "failed 1 sys/net goal STARTED is STOPPED after 0: exited with code 1 (0s)")
}

// TestTransitionKeepsWhatGoesOn checks that retries, stability and user's stops survive.
func TestTransitionKeepsWhatGoesOn(t *testing.T) {
	t.Parallel()
	r := &manifest.AutoRecovery{Policy: "always", MaxRetries: 3, RetryDelay: time.Second, StableTimeout: 10 * time.Second, BackoffPolicy: "never"}
	a, b, c := unitOf("a", "app", manifest.Started, r), unitOf("b", "app", manifest.Started, nil), unitOf("c", "app", manifest.Started, r)
	s := newFake(t, system(a, b, c))
	s.run()
	s.await("a=STARTED", "b=STARTED", "c=STARTED")
	s.crash("a")
	s.await("a=RECOVERING/1", "b=STARTED", "c=STARTED")
	s.pass(time.Second)
	s.await("a=STARTED/1", "b=STARTED", "c=STARTED")
	if err := s.e.ContainerAction("b", "stop"); err != nil {
		t.Fatal(err)
	}
	s.await("a=STARTED/1", "b=STOPPED", "c=STARTED")
	s.pass(9 * time.Second) // c is stable, a not yet
	e := s.listen()
	c.Group = "data" // another group, the same container
	c.Goal = manifest.Started
	s.transition("1", nil, c, a, b)
	s.await("a=STARTED/1", "b=STOPPED", "c=STARTED")
	s.expect(e, "settled 1 3/3")
	if list, _ := s.e.Containers(); *list[2].Group != "data" || list[2].AutoRecovery.IsStable != "true" || list[1].UserStopped != "true" {
		t.Errorf("%+v", list)
	}
	s.pass(time.Second)
	s.await("a=STARTED/1", "b=STOPPED", "c=STARTED")
	s.expect(e, "stable true")
	s.calls()
	s.crash("a")
	s.await("a=RECOVERING/2", "b=STOPPED", "c=STARTED")
	s.expect(e, "stable false")
	s.pass(time.Second)
	s.await("a=STARTED/2", "b=STOPPED", "c=STARTED")
	if got := s.calls(); !strings.Contains(got, "in 1,mount a") { // from now on its files are those of the new revision
		t.Errorf("the backend was asked for %s", got)
	}
	c.Goal = manifest.Mounted
	s.transition("2", nil, c, a, b)
	s.await("a=STARTED/2", "b=STOPPED", "c=MOUNTED")
}

// TestRollback returns to the first revision before the second one has settled, and before
// it has even begun.
func TestRollback(t *testing.T) {
	t.Parallel()
	net, web := unitOf("net", "sys", manifest.Started, nil), unitOf("web", "app", manifest.Started, nil)
	ready := web
	ready.Goal = manifest.Ready
	s := newFake(t, system(net, web))
	e := s.listen()
	s.run()
	s.await("net=STARTED", "web=STARTED")
	s.expect(e, "settled 0 2/2", "stable true")
	s.transition("1", []string{"web"}, net, ready)
	s.await("net=STARTED", "web=STARTED")
	s.expect(e, "stable false")
	s.transition("0", []string{"web"}, net, web)
	s.await("net=STARTED", "web=STARTED")
	s.expect(e, "settled 0 2/2", "stable true")
	stuck := s.hold("web")
	s.transition("1", []string{"web"}, net, ready)
	s.transition("0", nil, net, web)
	if err := s.e.ContainerAction("web", "fly"); !errors.Is(err, errAction) {
		t.Errorf("an unknown action: %v", err)
	}
	close(stuck)
	s.await("net=STARTED", "web=STARTED")
	s.expect(e, "stable false", "settled 0 2/2", "stable true")
	s.pass(time.Hour)
	s.expect(e) // no time of an earlier revision is left
}

// hold makes the stop of a container wait until the channel is closed.
func (s *fake) hold(name string) chan struct{} {
	c := make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs[name].held = c
	return c
}

// TestActionsDuringTransition checks that a user's last word about a container that is
// replaced counts for the new one.
func TestActionsDuringTransition(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ actions, want string }{
		{"stop", "STOPPED"}, {"restart", "STARTED"}, {"start", "STARTED"}, {"stop,start", "STARTED"}, {"restart,stop", "STOPPED"},
	} {
		web, gone := unitOf("web", "app", manifest.Started, nil), unitOf("gone", "app", manifest.Started, nil)
		s := newFake(t, system(gone, web))
		s.run()
		s.await("gone=STARTED", "web=STARTED")
		e := s.listen()
		stuck := s.hold("web")
		s.transition("1", []string{"web"}, web)
		for _, a := range strings.Split(c.actions, ",") {
			for _, name := range []string{"web", "gone"} {
				if err := s.e.ContainerAction(name, a); err != nil {
					t.Errorf("%s of %s: %v", a, name, err)
				}
			}
		}
		close(stuck)
		s.await("web=" + c.want)
		if list, _ := s.e.Containers(); list[0].UserStopped != fmt.Sprint(c.want == "STOPPED") {
			t.Errorf("%s: %+v", c.actions, list[0])
		}
		s.expect(e, "stable false", fmt.Sprintf("settled 1 %d/1", map[bool]int{true: 1}[c.want == "STARTED"]), "stable true")
	}
}

func TestStopDuringTransition(t *testing.T) {
	t.Parallel()
	web := unitOf("web", "app", manifest.Started, nil)
	s := newFake(t, system(web))
	s.run()
	s.await("web=STARTED")
	e := s.listen()
	stuck := s.hold("web")
	s.transition("1", []string{"web"}, web)
	if err := s.e.Stop(handoff.ExitPowerOff, "a test"); err != nil {
		t.Fatal(err)
	}
	err := s.e.Transition(Revision{Name: "2", System: system(web), Backend: s}, nil)
	if !errors.Is(err, ErrBusy) {
		t.Errorf("a transition of an engine that stops: %v", err)
	}
	close(stuck)
	if code := <-s.code; code != handoff.ExitPowerOff {
		t.Errorf("exit code %d", code)
	}
	if got := e.take(); got != "stable false" || strings.Contains(s.calls(), "in ") {
		t.Errorf("events %s", got)
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	never := &manifest.AutoRecovery{Policy: "always", MaxRetries: 1, BackoffPolicy: "never"}
	ends, slow := unitOf("ends", "app", manifest.Started, nil), unitOf("slow", "sys", manifest.Ready, nil)
	slow.Timeout = 7 * time.Second // not the group's 30
	s := newFake(t, system(slow, unitOf("bad", "app", manifest.Started, never), ends, unitOf("missing", "app", manifest.Started, never)))
	s.e.load(Revision{Name: "5", System: s.e.rev.System, Backend: s, Lost: map[string]string{"lost": "run.json: no"}}, nil)
	s.bad["bad"] = errors.New("no init")
	s.fail["missing"] = Permanent(errors.New("object 12ab is missing"))
	e := s.listen()
	s.run()
	s.await("bad=BLOCKED", "ends=BLOCKED", "lost=STOPPED", "missing=BLOCKED", "slow=STARTED")
	s.expect(e, "failed 5 /lost goal STARTED is STOPPED after 0: run.json: no (0s)")
	s.pass(3 * time.Second)
	if g, _ := s.e.Groups(); *g[1].TimeoutRemaining != 4 || g[1].Timeout != 7 || g[2].Timeout != 0 || g[2].TimeoutRemaining != nil {
		t.Errorf("groups %+v", g)
	}
	if c, _ := s.e.Containers(); *c[4].TimeoutRemaining != 4 || c[4].Timeout != 7 || c[0].Timeout != 0 || c[0].TimeoutRemaining != nil {
		t.Errorf("containers %+v", c)
	}
	s.pass(4 * time.Second)
	s.await("bad=RECOVERING/1", "ends=STARTED", "lost=STOPPED", "missing=STOPPED", "slow=STARTED")
	s.expectSorted(e, "failed 5 app/missing goal STARTED is STOPPED after 0: object 12ab is missing (0s)",
		"failed 5 sys/slow goal READY is STARTED after 0:  (7s)")
	s.pass(0)
	s.await("bad=STOPPED/1", "ends=STARTED", "lost=STOPPED", "missing=STOPPED", "slow=STARTED")
	s.expect(e, "failed 5 app/bad goal STARTED is STOPPED after 1: no init (0s)", "settled 5 1/5",
		"below bad is STOPPED: no init", "below lost is STOPPED: run.json: no", "below missing is STOPPED: object 12ab is missing",
		"below slow is STARTED: ", "stable true")
	if g, _ := s.e.Groups(); g[1].TimeoutRemaining != nil {
		t.Errorf("groups %+v", g)
	}
	s.crash("ends")
	s.await("bad=STOPPED/1", "ends=STOPPED", "lost=STOPPED", "missing=STOPPED", "slow=STARTED")
	s.expect(e, "failed 5 app/ends goal STARTED is STOPPED after 0: exited with code 1 (0s)")
	if err := s.e.Ready("slow"); err != nil { // too late, and yet it was there
		t.Fatal(err)
	}
	s.crash("slow")
	s.await("bad=STOPPED/1", "ends=STOPPED", "lost=STOPPED", "missing=STOPPED", "slow=STOPPED")
	s.expect(e, "failed 5 sys/slow goal READY is STOPPED after 0: exited with code 1 (0s)")
}

// expectSorted compares events whose order does not matter.
func (s *fake) expectSorted(e *told, want ...string) {
	s.t.Helper()
	_ = s.e.call(func() error { return nil })
	_ = s.e.call(func() error { return nil })
	got := strings.Split(e.take(), "\n")
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" {
		s.t.Errorf("events (-want +got)\n%s", d)
	}
}

// TestTrial checks that no back-off policy counts under test: the failure is reported and
// the container stays as it is.
func TestTrial(t *testing.T) {
	t.Parallel()
	for policy, wait := range map[string]time.Duration{"reboot": 0, "10min": 10 * time.Minute, "never": 0} {
		r := &manifest.AutoRecovery{Policy: "always", MaxRetries: 1, RetryDelay: time.Second, BackoffPolicy: policy, BackoffWait: wait}
		s := newFake(t, system(unitOf("c", "app", manifest.Started, r)))
		e := s.listen()
		s.e.SetTrial(true)
		s.run()
		s.await("c=STARTED")
		s.crash("c")
		s.await("c=RECOVERING/1")
		s.pass(time.Second)
		s.await("c=STARTED/1")
		s.expect(e, "settled 0 1/1", "stable true")
		s.crash("c")
		s.await("c=STOPPED/1")
		s.pass(time.Hour)
		s.await("c=STOPPED/1")
		s.expect(e, "failed 0 app/c goal STARTED is STOPPED after 1: exited with code 1 (0s)")
		if err := s.e.Stopping(); err != nil {
			t.Errorf("%s: %v", policy, err)
		}
	}
}

// TestTransitionsAtRandom changes revisions, crashes containers and acts as a user in any
// order: a container never runs twice at a time, and in the end exactly the containers of
// the last revision run.
func TestTransitionsAtRandom(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		r := &manifest.AutoRecovery{Policy: "always", BackoffPolicy: "never"}
		states := map[string]string{} // the version of each container, "" when it is not there
		names := []string{"a", "b", "c", "d"}
		pick := func() (cs []manifest.Container, changed []string) {
			for i, n := range names {
				v := []string{"", "1", "2"}[rnd.IntN(3)]
				if v != states[n] {
					changed = append(changed, n)
				}
				if states[n] = v; v != "" {
					cs = append(cs, unitOf(n, []string{"data", "app"}[i%2], manifest.Started, r))
				}
			}
			return cs, changed
		}
		first, _ := pick()
		s := newFake(t, system(first...))
		s.once = true
		s.run()
		for step := range 30 {
			switch rnd.IntN(4) {
			case 0:
				cs, changed := pick()
				s.transition(fmt.Sprint(step), changed, cs...)
			case 1:
				_ = s.e.ContainerAction(names[rnd.IntN(4)], []string{"stop", "start", "restart"}[rnd.IntN(3)])
			case 2:
				s.mu.Lock()
				a := s.runs[names[rnd.IntN(4)]]
				s.mu.Unlock()
				if a != nil {
					a.end("killed")
				}
			case 3:
				s.pass(time.Second)
			}
		}
		var want []string
		for _, n := range names {
			if states[n] != "" {
				_ = s.e.ContainerAction(n, "start")
				want = append(want, n+"=STARTED")
			}
		}
		s.awaitAny(want)
	}
}

// awaitAny waits for statuses whatever the retries are, letting time pass.
func (s *fake) awaitAny(want []string) {
	s.t.Helper()
	var got []string
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		s.pass(time.Second)
		got = nil
		list, _ := s.e.Containers()
		for _, c := range list {
			got = append(got, c.Name+"="+c.Status)
			if c.UserStopped == "true" { // it was stopping when it was started
				_ = s.e.ContainerAction(c.Name, "start")
			}
		}
		if slices.Equal(got, want) && s.quiet() {
			return
		}
	}
	s.t.Fatalf("containers are %v, want %v", got, want)
}

// TestTimesOfTransition checks that the time of a container that is below its goal begins
// anew, and that what ends anyway, or was stopped by a user, has not failed.
func TestTimesOfTransition(t *testing.T) {
	t.Parallel()
	r := &manifest.AutoRecovery{Policy: "always", StableTimeout: time.Second}
	slow, web := unitOf("slow", "app", manifest.Ready, nil), unitOf("web", "app", manifest.Ready, r)
	last, lost := unitOf("last", "sys", manifest.Started, nil), unitOf("lost", "sys", manifest.Started, nil)
	s := newFake(t, system(slow, web, last))
	s.e.load(Revision{Name: "0", System: s.e.rev.System, Backend: s, Lost: map[string]string{"lost": "run.json: no"}}, nil)
	s.run()
	s.await("last=STARTED", "lost=STOPPED", "slow=STARTED", "web=STARTED")
	if err := s.e.ContainerAction("web", "stop"); err != nil {
		t.Fatal(err)
	}
	s.await("last=STARTED", "lost=STOPPED", "slow=STARTED", "web=STOPPED")
	s.pass(20 * time.Second)
	e := s.listen()
	stuck := s.hold("slow")
	s.transition("1", []string{"slow", "last"}, slow, web, last, lost)
	s.crash("last") // it is still the turn of its group's successor
	for s.e.unitStatus("last") != stopped {
		time.Sleep(time.Millisecond)
	}
	close(stuck)
	s.await("last=STARTED", "lost=STARTED", "slow=STARTED", "web=STOPPED")
	s.expect(e)
	s.pass(20 * time.Second)
	s.transition("2", nil, slow, web, last, lost)
	s.await("last=STARTED", "lost=STARTED", "slow=STARTED", "web=STOPPED")
	s.pass(29 * time.Second)
	s.expect(e)
	s.pass(time.Second)
	s.await("last=STARTED", "lost=STARTED", "slow=STARTED", "web=STOPPED")
	s.expect(e, "failed 2 app/slow goal READY is STARTED after 0:  (30s)", "settled 2 2/4", "below slow is STARTED: ", "stable true")
	s.transition("3", []string{"slow"}, slow, web, last, lost)
	s.await("last=STARTED", "lost=STARTED", "slow=STARTED", "web=STOPPED")
	if err := s.e.ContainerAction("slow", "stop"); err != nil {
		t.Fatal(err)
	}
	s.await("last=STARTED", "lost=STARTED", "slow=STOPPED", "web=STOPPED")
	s.pass(time.Minute)
	s.expect(e, "stable false", "settled 3 2/4", "stable true")
}

// TestAnotherChance checks that what has given up before its goal starts in the next revision,
// and what was there and has ended does not.
func TestAnotherChance(t *testing.T) {
	t.Parallel()
	r := &manifest.AutoRecovery{Policy: "always", MaxRetries: 1, BackoffPolicy: "10min", BackoffWait: 10 * time.Minute}
	bad, once := unitOf("bad", "app", manifest.Started, r), unitOf("once", "app", manifest.Started, nil)
	s := newFake(t, system(bad, once))
	s.bad["bad"] = errors.New("no init")
	s.run()
	s.await("bad=RECOVERING/1", "once=STARTED")
	s.crash("once")
	s.pass(0)
	s.await("bad=STOPPED/1", "once=STOPPED")
	e := s.listen()
	s.mu.Lock()
	s.bad["bad"] = nil
	s.mu.Unlock()
	s.transition("1", nil, bad, once)
	s.await("bad=STARTED", "once=STOPPED")
	s.expect(e, "stable false", "settled 1 2/2", "stable true")
	s.calls()
	s.pass(time.Hour)
	s.await("bad=STARTED", "once=STOPPED")
	if got := s.calls(); got != "" {
		t.Errorf("the back-off of before still counts: %s", got)
	}
}

// TestMountingIsEnded checks that a container that is still being mounted, which takes long
// when large objects are checked, holds up neither a user, nor a transition, nor the end.
func TestMountingIsEnded(t *testing.T) {
	t.Parallel()
	big, web := unitOf("big", "app", manifest.Started, nil), unitOf("web", "app", manifest.Started, nil)
	s := newFake(t, system(big, web))
	s.slow = "big"
	hashing := func() {
		t.Helper()
		for end := time.Now().Add(time.Minute); !strings.Contains(s.calls(), "hash big"); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("big is not mounted")
			}
		}
	}
	s.run()
	hashing()
	if err := s.e.ContainerAction("big", "stop"); err != nil {
		t.Fatal(err)
	}
	s.await("big=STOPPED", "web=STARTED")
	if err := s.e.ContainerAction("big", "start"); err != nil {
		t.Fatal(err)
	}
	hashing()
	s.transition("1", nil, web)
	s.await("web=STARTED")
	s.transition("0", nil, big, web)
	hashing()
	if err := s.e.Stop(handoff.ExitPowerOff, "a test"); err != nil {
		t.Fatal(err)
	}
	if code := <-s.code; code != handoff.ExitPowerOff {
		t.Errorf("exit code %d", code)
	}
}

func (e *Engine) unitStatus(name string) (s status) {
	_ = e.call(func() error { s = e.unit(name).status; return nil })
	return s
}

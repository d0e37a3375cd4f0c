package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/handoff"
	"github.com/pantavisor/pantavisor/runtime/logs"
)

// fake is a backend and a clock that the test controls: containers end and time passes
// when it says.
type fake struct {
	t      *testing.T
	e      *Engine
	mu     sync.Mutex
	clock  time.Time
	timers []*timer
	fail   map[string]error // errors of mounting, by container
	bad    map[string]error // errors of starting, by container
	runs   map[string]*run
	log    []string // the calls of the backend, in order
	slow   string   // a container whose mounting takes for ever
	once   bool     // a container that is mounted twice at a time fails the test
	code   chan int
}

type timer struct {
	at   time.Time
	f    func()
	dead bool
}

type run struct {
	s     *fake
	name  string
	done  chan struct{}
	how   string
	ended sync.Once
	held  chan struct{} // keeps Stop waiting until it is closed, unless nil
	over  bool          // released
}

func (s *fake) Mount(ctx context.Context, c *manifest.Container) (Instance, error) {
	if s.slow == c.Name {
		s.note("hash " + c.Name)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, "mount "+c.Name)
	if err := s.fail[c.Name]; err != nil {
		return nil, err
	}
	if last := s.runs[c.Name]; s.once && last != nil && !last.over {
		s.t.Errorf("container %s is mounted a second time", c.Name)
	}
	a := &run{s: s, name: c.Name, done: make(chan struct{})}
	s.runs[c.Name] = a
	return a, nil
}

func (a *run) Start() error {
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	a.s.log = append(a.s.log, "start "+a.name)
	return a.s.bad[a.name]
}

func (a *run) Done() <-chan struct{} { return a.done }
func (a *run) Ending() string        { return a.how }

func (a *run) Stop(context.Context) bool {
	a.s.note("stop " + a.name)
	if a.held != nil {
		<-a.held
	}
	a.end("exited with code 0")
	return false
}

func (a *run) Release() error {
	a.s.note("release " + a.name)
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	a.over = true
	return nil
}

func (a *run) end(how string) {
	a.ended.Do(func() {
		a.how = how
		close(a.done)
	})
}

func (s *fake) note(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, what)
}

// crash ends a container's init.
func (s *fake) crash(name string) {
	s.mu.Lock()
	a := s.runs[name]
	s.mu.Unlock()
	a.end("exited with code 1")
}

// pass advances the clock; timers that are due fire in their order.
func (s *fake) pass(d time.Duration) {
	s.mu.Lock()
	until := s.clock.Add(d)
	s.mu.Unlock()
	for {
		s.mu.Lock()
		var next *timer
		for _, t := range s.timers {
			if !t.dead && !t.at.After(until) && (next == nil || t.at.Before(next.at)) {
				next = t
			}
		}
		if next == nil {
			s.clock = until
			s.mu.Unlock()
			return
		}
		next.dead, s.clock = true, next.at
		s.mu.Unlock()
		next.f()
	}
}

// sinkFunc is a log sink.
type sinkFunc func(string)

func (f sinkFunc) Log(_, _ string, l logs.Level, msg string) { f(l.String() + " " + msg) }

func newFake(t *testing.T, sys *manifest.System) *fake {
	s := &fake{t: t, clock: time.Unix(1000, 0), fail: map[string]error{}, bad: map[string]error{}, runs: map[string]*run{}, code: make(chan int, 1)}
	s.e = New(Revision{Name: "0", System: sys, Backend: s}, Options{Log: logs.Logger{Sink: sinkFunc(func(m string) { t.Log(m) })}})
	s.e.now = func() time.Time { s.mu.Lock(); defer s.mu.Unlock(); return s.clock }
	s.e.timer = func(d time.Duration, f func()) func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		tm := &timer{at: s.clock.Add(d), f: f}
		s.timers = append(s.timers, tm)
		return func() { s.mu.Lock(); tm.dead = true; s.mu.Unlock() }
	}
	return s
}

func (s *fake) run() {
	go func() { s.code <- s.e.Run(context.Background()) }()
	s.t.Cleanup(func() {
		s.e.post(func() { s.e.shutdown(handoff.ExitReboot, "the end of the test") })
		select {
		case <-s.e.over:
		case <-time.After(60 * time.Second):
			s.t.Error("the engine does not end")
		}
	})
}

// await waits until the containers have these statuses: "app=STARTED/2" is a status
// with a retry counter.
func (s *fake) await(want ...string) {
	s.t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	var got []string
	for time.Now().Before(deadline) {
		got = got[:0]
		quiet := s.quiet()
		v := s.e.view.Load()
		if v == nil {
			time.Sleep(time.Millisecond)
			continue
		}
		for _, c := range v.containers {
			text := c.Name + "=" + c.Status
			if c.AutoRecovery != nil && c.AutoRecovery.CurrentRetries > 0 {
				text += fmt.Sprintf("/%d", c.AutoRecovery.CurrentRetries)
			}
			got = append(got, text)
		}
		if quiet && cmp.Equal(want, got) {
			return
		}
		time.Sleep(time.Millisecond)
	}
	s.t.Fatalf("containers are %v, want %v", got, want)
}

// quiet reports whether no work is in progress, so that all timers are set.
func (s *fake) quiet() bool {
	idle := false
	_ = s.e.call(func() error {
		idle = len(s.e.slots) == 0
		for _, u := range s.e.units {
			idle = idle && !u.busy && u.status != stopping && (!u.running || u.status >= started)
		}
		return nil
	})
	return idle
}

func unitOf(name, group string, goal manifest.Goal, r *manifest.AutoRecovery) manifest.Container {
	restart := manifest.RestartContainer
	if group == "sys" {
		restart = manifest.RestartSystem
	}
	return manifest.Container{Name: name, Group: group, Goal: goal, Restart: restart, Recovery: r, Timeout: 30 * time.Second}
}

func system(cs ...manifest.Container) *manifest.System {
	return &manifest.System{Groups: []manifest.Group{
		{Name: "data", Goal: manifest.Mounted, Timeout: 30 * time.Second},
		{Name: "sys", Goal: manifest.Started, Timeout: 30 * time.Second},
		{Name: "app", Goal: manifest.Started, Timeout: 30 * time.Second},
	}, Containers: cs}
}

func TestGroupsOpenInOrder(t *testing.T) {
	s := newFake(t, system(unitOf("base", "data", manifest.Mounted, nil), unitOf("net", "sys", manifest.Ready, nil),
		unitOf("web", "app", manifest.Started, nil)))
	var status []string
	s.e.opt.Status = func(st string) { status = append(status, st) }
	var settled string
	s.e.opt.Settled = func(o Outcome) { settled = fmt.Sprint(o.Reached, "/", o.All) }
	s.run()
	s.await("base=MOUNTED", "net=STARTED", "web=BLOCKED")
	if err := s.e.Ready("web"); !errors.Is(err, ErrUnexpected) {
		t.Errorf("a signal that nobody waits for: %v", err)
	}
	if err := s.e.Ready("net"); err != nil {
		t.Error(err)
	}
	s.await("base=MOUNTED", "net=READY", "web=STARTED")
	groups, _ := s.e.Groups()
	for _, g := range groups {
		if g.Status != "READY" {
			t.Errorf("group %s is %s", g.Name, g.Status)
		}
	}
	_ = s.e.call(func() error {
		if settled != "3/3" || status[len(status)-1] != "READY" {
			t.Errorf("settled %s, statuses %v", settled, status)
		}
		return nil
	})
	if err := s.e.Stop(handoff.ExitPowerOff, "a test"); err != nil {
		t.Fatal(err)
	}
	if code := <-s.code; code != handoff.ExitPowerOff {
		t.Errorf("exit code %d", code)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := cmp.Diff("mount base,mount net,start net,mount web,start web,stop web,release web,stop net,release net,release base", strings.Join(s.log, ",")); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestGroupTimeoutUnblocks(t *testing.T) {
	s := newFake(t, system(unitOf("net", "sys", manifest.Ready, nil), unitOf("web", "app", manifest.Started, nil)))
	s.run()
	s.await("net=STARTED", "web=BLOCKED")
	s.pass(29 * time.Second)
	s.await("net=STARTED", "web=BLOCKED")
	s.pass(time.Second)
	s.await("net=STARTED", "web=STARTED")
}

func TestBrokenContainerDoesNotBlockOthers(t *testing.T) {
	s := newFake(t, system(unitOf("bad", "sys", manifest.Started, nil), unitOf("lost", "sys", manifest.Started,
		&manifest.AutoRecovery{Policy: "always", MaxRetries: 3}), unitOf("web", "app", manifest.Started, nil)))
	s.bad["bad"] = errors.New("looking for init: /no: no such file")
	s.fail["lost"] = Permanent(errors.New("object 12ab is missing"))
	s.run()
	s.await("bad=STOPPED", "lost=STOPPED", "web=STARTED")
	list, _ := s.e.Containers()
	if list[0].StatusReason != "looking for init: /no: no such file" || list[1].StatusReason != "object 12ab is missing" || list[2].StatusReason != "" {
		t.Errorf("reasons %q, %q, %q", list[0].StatusReason, list[1].StatusReason, list[2].StatusReason)
	}
}

// TestStatusIsReadyAtGoalsOnly walks the ways in which a container is not at its goal: the
// revision and its group have that container's status, not READY.
func TestStatusIsReadyAtGoalsOnly(t *testing.T) {
	r := &manifest.AutoRecovery{Policy: "always", MaxRetries: 2, RetryDelay: time.Second, BackoffPolicy: "never"}
	s := newFake(t, system(unitOf("a", "app", manifest.Started, nil), unitOf("c", "app", manifest.Started, r)))
	status := ""
	s.e.opt.Status = func(st string) { status = st }
	fail := func(err error) { s.mu.Lock(); defer s.mu.Unlock(); s.bad["c"] = err }
	fail(errors.New("no init"))
	s.run()
	check := func(want string, containers ...string) {
		t.Helper()
		s.await(containers...)
		_ = s.e.call(func() error { return nil })
		groups, err := s.e.Groups()
		if g := groups[len(groups)-1]; err != nil || g.Name != "app" || g.Status != want || status != want {
			t.Errorf("with %v group %+v (%v), revision %s, want %s", containers, g, err, status, want)
		}
	}
	again := func() {
		t.Helper()
		if err := s.e.ContainerAction("c", "start"); err != nil {
			t.Fatal(err)
		}
	}
	check("RECOVERING", "a=STARTED", "c=RECOVERING/1")
	s.pass(time.Second)
	check("RECOVERING", "a=STARTED", "c=RECOVERING/2")
	s.pass(time.Second)
	check("STOPPED", "a=STARTED", "c=STOPPED/2") // it never was at its goal
	fail(nil)
	again()
	check("READY", "a=STARTED", "c=STARTED")
	s.crash("c")
	check("RECOVERING", "a=STARTED", "c=RECOVERING/1")
	s.pass(time.Second)
	check("READY", "a=STARTED", "c=STARTED/1")
	s.crash("a")
	check("READY", "a=STOPPED", "c=STARTED/1") // it was, and has ended for good
}

func TestRecoverySeries(t *testing.T) {
	r := &manifest.AutoRecovery{Policy: "on-failure", MaxRetries: 3, RetryDelay: time.Second, BackoffFactor: 2,
		StableTimeout: 30 * time.Second, BackoffPolicy: "never"}
	s := newFake(t, system(unitOf("c", "app", manifest.Started, r)))
	s.run()
	s.await("c=STARTED")
	for i, wait := range []time.Duration{1, 2, 4} {
		s.crash("c")
		s.await(fmt.Sprintf("c=RECOVERING/%d", i+1))
		s.pass(wait*time.Second - time.Millisecond)
		s.await(fmt.Sprintf("c=RECOVERING/%d", i+1))
		s.pass(time.Millisecond)
		s.await(fmt.Sprintf("c=STARTED/%d", i+1))
	}
	s.crash("c")
	s.await("c=STOPPED/3")
	if list, _ := s.e.Containers(); list[0].StatusReason != "exited with code 1" || list[0].UserStopped != "false" {
		t.Errorf("%+v", list[0])
	}
	if err := s.e.ContainerAction("c", "start"); err != nil {
		t.Fatal(err)
	}
	s.await("c=STARTED")
	s.pass(30 * time.Second)
	_ = s.e.call(func() error { return nil })
	s.await("c=STARTED")
	if list, _ := s.e.Containers(); list[0].AutoRecovery.IsStable != "true" {
		t.Error("it is not stable after its time")
	}
}

func TestResetWindow(t *testing.T) {
	r := &manifest.AutoRecovery{Policy: "always", MaxRetries: 1, RetryDelay: time.Second, ResetWindow: time.Minute, BackoffPolicy: "never"}
	s := newFake(t, system(unitOf("c", "app", manifest.Started, r)))
	s.run()
	for range 3 { // each crash is the first one again
		s.await("c=STARTED" + map[bool]string{true: "/1"}[s.retries("c") > 0])
		s.pass(61 * time.Second)
		s.crash("c")
		s.await("c=RECOVERING/1")
		s.pass(time.Second)
		s.await("c=STARTED/1")
	}
	s.crash("c")
	s.await("c=STOPPED/1")
}

func (s *fake) retries(name string) (n int) {
	_ = s.e.call(func() error { n = s.e.unit(name).retries; return nil })
	return n
}

func TestBackoff(t *testing.T) {
	for policy, wait := range map[string]time.Duration{"reboot": 0, "": 0, "10min": 10 * time.Minute} {
		t.Run(policy, func(t *testing.T) {
			r := &manifest.AutoRecovery{Policy: "always", MaxRetries: 1, RetryDelay: time.Second, BackoffPolicy: policy, BackoffWait: wait}
			s := newFake(t, system(unitOf("c", "app", manifest.Started, r)))
			s.run()
			s.await("c=STARTED")
			s.crash("c")
			s.await("c=RECOVERING/1")
			s.pass(time.Second)
			s.await("c=STARTED/1")
			s.crash("c")
			if wait == 0 {
				if code := <-s.code; code != handoff.ExitReboot {
					t.Errorf("exit code %d", code)
				}
				return
			}
			s.await("c=STOPPED/1")
			s.pass(wait)
			s.await("c=STARTED")
		})
	}
}

// TestNoRecoveryStaysStopped checks that a container without recovery stays STOPPED with
// its reason, whatever the restart policy.
func TestNoRecoveryStaysStopped(t *testing.T) {
	s := newFake(t, system(unitOf("sys", "sys", manifest.Started, nil), unitOf("web", "app", manifest.Started, nil),
		unitOf("saved", "sys", manifest.Started, &manifest.AutoRecovery{Policy: "always", RetryDelay: time.Second})))
	s.run()
	s.await("saved=STARTED", "sys=STARTED", "web=STARTED")
	s.pass(time.Hour)
	for _, name := range []string{"sys", "web", "saved"} {
		s.crash(name)
	}
	s.await("saved=RECOVERING/1", "sys=STOPPED", "web=STOPPED")
	s.pass(time.Hour)
	s.await("saved=STARTED/1", "sys=STOPPED", "web=STOPPED")
}

func TestPolicies(t *testing.T) {
	for policy, want := range map[string]string{"no": "c=STOPPED", "on-failure": "c=STARTED/1", "always": "c=STARTED/1", "unless-stopped": "c=STARTED/1"} {
		t.Run(policy, func(t *testing.T) {
			s := newFake(t, system(unitOf("c", "app", manifest.Started, &manifest.AutoRecovery{Policy: policy, RetryDelay: time.Second, BackoffPolicy: "never"})))
			s.run()
			s.await("c=STARTED")
			s.crash("c")
			s.await(map[bool]string{true: "c=RECOVERING/1", false: "c=STOPPED"}[policy != "no"])
			s.pass(time.Second)
			s.await(want)
			if err := s.e.ContainerAction("c", "stop"); err != nil {
				t.Fatal(err)
			}
			stoppedNow := "c=STOPPED" + strings.TrimPrefix(strings.TrimPrefix(want, "c=STARTED"), "c=STOPPED")
			s.await(stoppedNow)
			s.pass(time.Hour) // whatever the policy: a user's word counts
			s.await(stoppedNow)
		})
	}
}

// TestStabilityStartsAgain checks that a crash within the stability timeout restarts it,
// and that a container that ends is no longer stable.
func TestStabilityStartsAgain(t *testing.T) {
	r := &manifest.AutoRecovery{Policy: "always", RetryDelay: time.Second, StableTimeout: 30 * time.Second}
	s := newFake(t, system(unitOf("c", "app", manifest.Ready, r), unitOf("d", "app", manifest.Started, nil)))
	s.run()
	stable := func() string {
		_ = s.e.call(func() error { return nil })
		list, _ := s.e.Containers()
		return list[0].AutoRecovery.IsStable
	}
	s.await("c=STARTED", "d=STARTED")
	s.pass(time.Minute)
	if stable() != "false" {
		t.Error("stable before its goal")
	}
	for _, wait := range []time.Duration{29, 30} {
		if err := s.e.Ready("c"); err != nil {
			t.Fatal(err)
		}
		s.pass(wait * time.Second)
		if want := map[bool]string{true: "true", false: "false"}[wait == 30]; stable() != want {
			t.Errorf("after %d s it is stable: %s", wait, stable())
		}
		s.crash("c")
		n := s.retries("c")
		for end := time.Now().Add(60 * time.Second); n == s.retries("c") && time.Now().Before(end); time.Sleep(time.Millisecond) {
		}
		if stable() != "false" {
			t.Error("stable after a crash")
		}
		s.pass(time.Second)
		s.await(fmt.Sprintf("c=STARTED/%d", s.retries("c")), "d=STARTED")
	}
}

func TestActions(t *testing.T) {
	r := &manifest.AutoRecovery{Policy: "always", MaxRetries: 5, RetryDelay: time.Minute, BackoffPolicy: "never"}
	s := newFake(t, system(unitOf("c", "app", manifest.Started, r), unitOf("sysc", "sys", manifest.Started, nil)))
	s.run()
	s.await("c=STARTED", "sysc=STARTED")
	act := func(action, want string, after ...string) {
		t.Helper()
		err := s.e.ContainerAction("c", action)
		if got := fmt.Sprint(err); got != want {
			t.Errorf("%s: %s, want %s", action, got, want)
		}
		s.await(append(after, "sysc=STARTED")...)
	}
	const ok = "<nil>"
	act("start", ok, "c=STARTED")
	act("stop", ok, "c=STOPPED")
	if list, _ := s.e.Containers(); list[0].UserStopped != "true" {
		t.Error("user_stopped is not set")
	}
	act("stop", ok, "c=STOPPED")
	s.pass(time.Hour)
	act("start", ok, "c=STARTED")
	act("restart", ok, "c=STARTED")
	s.crash("c")
	s.await("c=RECOVERING/1", "sysc=STARTED")
	act("stop", ok, "c=STOPPED/1")
	s.pass(time.Hour)
	act("restart", ok, "c=STARTED")
	s.crash("c")
	s.await("c=RECOVERING/1", "sysc=STARTED")
	act("start", ok, "c=STARTED")
	act("fly", "Invalid action. Use 'start', 'stop', or 'restart'", "c=STARTED")
	for name, want := range map[string]int{"sysc": 403, "nobody": 404} {
		var e *api.Error
		if err := s.e.ContainerAction(name, "stop"); !errors.As(err, &e) || e.Status != want {
			t.Errorf("stopping %s: %v, want %d", name, err, want)
		}
	}
}

func TestStop(t *testing.T) {
	s := newFake(t, system())
	var told []int
	s.e.opt.Stopping = func(code int, _ string) { told = append(told, code) }
	s.run()
	if err := s.e.Stopping(); err != nil {
		t.Error(err)
	}
	if err := s.e.Stop(handoff.ExitPowerOff, "a test"); err != nil {
		t.Error(err)
	}
	if code := <-s.code; code != handoff.ExitPowerOff || len(told) != 1 || told[0] != code {
		t.Errorf("exit code %d, told %v", code, told)
	}
	if s.e.Stop(handoff.ExitReboot, "a test") == nil || s.e.Stopping() == nil {
		t.Error("an engine that has ended took a command")
	}
}

func TestDelayIsBounded(t *testing.T) {
	r := &manifest.AutoRecovery{RetryDelay: 5 * time.Second, BackoffFactor: 2}
	for n, want := range map[int]time.Duration{1: 5 * time.Second, 2: 10 * time.Second, 3: 20 * time.Second, 1000: maxDelay} {
		if got := delay(r, n); got != want {
			t.Errorf("attempt %d waits %v, want %v", n, got, want)
		}
	}
}

package engine

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/runtime/handoff"
	"github.com/pantavisor/pantavisor/runtime/logs"
)

// Ways to end, as exit codes.
const (
	exitReboot   = handoff.ExitReboot
	exitPowerOff = handoff.ExitPowerOff
)

// backend does what the engine decides.
type backend interface {
	// Mount mounts what a container consists of. It may be called for several
	// containers at the same time.
	Mount(c *manifest.Container) (instance, error)
}

// permanentError is an error that no attempt will mend: a missing object, a
// configuration that cannot be read.
type permanentError struct{ err error }

func (p *permanentError) Error() string { return p.err.Error() }
func (p *permanentError) Unwrap() error { return p.err }

func permanent(err error) error { return &permanentError{err} }

func isPermanent(err error) bool {
	var p *permanentError
	return errors.As(err, &p)
}

// group is a group of the state with its members.
type group struct {
	manifest.Group
	units   []*unit
	opened  bool
	expired bool
	cancel  func()
	shown   status
}

// Engine runs containers. Make one with newEngine; [Run] does.
type Engine struct {
	log     logs.Logger
	backend backend
	now     func() time.Time
	timer   func(time.Duration, func()) (stop func())
	inbox   chan func()
	over    chan struct{} // closed when the loop has ended
	slots   chan struct{} // bounds work that runs at the same time

	groups  []*group
	units   []*unit // in the order of the state's names
	dirty   bool
	settled bool // every container has reached its goal or cannot
	closing bool
	code    int

	view     atomic.Pointer[view]
	onStatus func(string) // told the revision's status when it changes
	onSettle func(reached, all int)
	onEnd    func()                         // told that everything begins to stop
	order    func(op, payload string) error // operations that are not the engine's own; must return at once
	shown    status
}

// newEngine makes an engine of a validated state.
func newEngine(sys *manifest.System, b backend, log logs.Logger) *Engine {
	e := &Engine{
		log: log, backend: b, now: time.Now, inbox: make(chan func(), 64), over: make(chan struct{}),
		slots:    make(chan struct{}, max(2, runtime.NumCPU())),
		onStatus: func(string) {}, onSettle: func(int, int) {}, onEnd: func() {},
		order: func(op, _ string) error { return notAvailable(op) },
	}
	e.timer = func(d time.Duration, f func()) func() {
		t := time.AfterFunc(d, f)
		return func() { t.Stop() }
	}
	for _, g := range sys.Groups {
		e.groups = append(e.groups, &group{Group: g})
	}
	for i := range sys.Containers {
		c := &sys.Containers[i]
		u := &unit{c: c, goal: goalStatus[c.Goal], status: installed}
		e.units = append(e.units, u)
		if g := e.group(c.Group); g != nil {
			g.units = append(g.units, u)
		}
	}
	slices.SortFunc(e.units, func(a, b *unit) int { return compare(a.c.Name, b.c.Name) })
	return e
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (e *Engine) group(name string) *group {
	for _, g := range e.groups {
		if g.Name == name {
			return g
		}
	}
	return nil
}

func (e *Engine) unit(name string) *unit {
	for _, u := range e.units {
		if u.c.Name == name {
			return u
		}
	}
	return nil
}

// add puts a container into the engine that the state has but that cannot run.
func (e *Engine) add(c *manifest.Container, reason string) {
	u := &unit{c: c, goal: goalStatus[c.Goal], status: stopped, reason: reason}
	if u.goal == 0 {
		u.goal = started
	}
	e.units = append(e.units, u)
	slices.SortFunc(e.units, func(a, b *unit) int { return compare(a.c.Name, b.c.Name) })
}

// post sends a message to the engine's goroutine.
func (e *Engine) post(f func()) {
	select {
	case e.inbox <- f:
	case <-e.over:
	}
}

// errOver answers who asks an engine that has ended.
var errOver = errors.New("the engine has ended")

// call has the engine's goroutine answer. Whoever got the answer sees its effect.
func (e *Engine) call(f func() error) error {
	answer := make(chan error, 1)
	e.post(func() {
		err := f()
		if e.dirty {
			e.publish()
		}
		answer <- err
	})
	select {
	case err := <-answer:
		return err
	case <-e.over:
	}
	select { // the answer may have been the engine's last word
	case err := <-answer:
		return err
	default:
		return errOver
	}
}

// work runs f elsewhere and what it returns in the engine's goroutine.
func (e *Engine) work(f func() func()) {
	go func() {
		e.slots <- struct{}{}
		done := f()
		<-e.slots
		e.post(done)
	}()
}

// after runs f in the engine's goroutine once d has passed.
func (e *Engine) after(d time.Duration, f func()) (cancel func()) {
	var cancelled bool // of the engine's goroutine, like all
	stop := e.timer(d, func() {
		e.post(func() {
			if !cancelled {
				f()
			}
		})
	})
	return func() {
		cancelled = true
		stop()
	}
}

// loop runs until everything is stopped; it returns the exit code.
func (e *Engine) loop(ctx context.Context) int {
	defer close(e.over)
	e.dirty = true
	quit := ctx.Done()
	for {
		e.reconcile()
		if e.dirty {
			e.publish()
		}
		if e.closing && e.atRest() {
			return e.code
		}
		select {
		case f := <-e.inbox:
			f()
		case <-quit:
			quit = nil
			e.shutdown(exitReboot)
		}
	}
}

// reconcile does what the statuses call for.
func (e *Engine) reconcile() {
	if e.closing {
		e.closeGroups()
		return
	}
	e.openGroups()
	for _, g := range e.groups {
		for _, u := range g.units {
			switch {
			case u.status != installed && u.status != blocked:
			case !g.opened:
				if u.status != blocked {
					e.set(u, blocked, u.reason)
				}
			case !u.busy && u.inst == nil:
				e.begin(u)
			}
		}
	}
	e.checkSettled()
}

// openGroups opens the groups whose turn it is.
func (e *Engine) openGroups() {
	for _, g := range e.groups {
		if !g.opened {
			e.open(g)
		}
		if !g.complete() {
			return
		}
		if g.cancel != nil {
			g.cancel()
			g.cancel = nil
		}
	}
}

func (e *Engine) open(g *group) {
	g.opened = true
	if len(g.units) == 0 || g.Timeout <= 0 {
		return
	}
	g.cancel = e.after(g.Timeout, func() {
		g.cancel = nil
		if g.complete() {
			return
		}
		g.expired = true
		e.log.Warnf("group %s did not reach its goals within %v; the next group starts", g.Name, g.Timeout)
	})
}

// complete tells whether nothing of the group is worth waiting for.
func (g *group) complete() bool {
	return g.expired || !slices.ContainsFunc(g.units, func(u *unit) bool { return !u.settled() })
}

// settled: it is where it should be, or nothing is going to change that soon.
func (u *unit) settled() bool {
	return u.reached || u.status == stopped
}

// checkSettled tells once that the revision is up, or as far up as it gets.
func (e *Engine) checkSettled() {
	if e.settled {
		return
	}
	for _, g := range e.groups {
		if !g.complete() {
			return
		}
	}
	e.settled = true
	n := 0
	for _, u := range e.units {
		if u.reached {
			n++
			continue
		}
		e.log.Errorf("container %s did not reach %s: it is %s: %s", u.c.Name, u.goal, u.status, orElse(u.reason, "time is over"))
	}
	e.onSettle(n, len(e.units))
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// shutdown begins to stop everything; the first reason decides the exit code.
func (e *Engine) shutdown(code int) {
	if e.closing {
		return
	}
	e.closing, e.code, e.dirty = true, code, true
	e.onEnd()
	word := handoff.Rebooting
	if code == exitPowerOff {
		word = handoff.PoweringOff
	}
	e.log.Infof("stopping for %s", word)
	if err := handoff.Notify(word); err != nil {
		e.log.Warnf("%v", err)
	}
	for _, u := range e.units {
		u.cancelTimer()
		e.unstable(u)
	}
}

// closeGroups stops the last group that still has something running.
func (e *Engine) closeGroups() {
	for _, g := range slices.Backward(e.groups) {
		if g.atRest() {
			continue
		}
		for _, u := range g.units {
			if !u.atRest() && u.status != stopping {
				e.stop(u, thenNothing)
			} else if u.status == stopping {
				u.next = thenNothing
			}
		}
		return
	}
}

func (u *unit) atRest() bool { return !u.busy && u.inst == nil }

func (g *group) atRest() bool {
	return !slices.ContainsFunc(g.units, func(u *unit) bool { return !u.atRest() })
}

func (e *Engine) atRest() bool {
	return !slices.ContainsFunc(e.units, func(u *unit) bool { return !u.atRest() })
}

package engine

import (
	"cmp"
	"context"
	"errors"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/runtime/handoff"
)

// Backend carries out what the engine decides.
type Backend interface {
	// Mount mounts the volumes of a container. It may be called for several
	// containers at the same time. After a [Permanent] error it is not called again.
	Mount(c *manifest.Container) (Instance, error)
}

// Logger takes the engine's log messages.
type Logger interface {
	Debugf(format string, args ...any)
	Infof(format string, args ...any)
	Warnf(format string, args ...any)
	Errorf(format string, args ...any)
}

// Options configure an [Engine]. The functions are called by the engine's goroutine and
// must not wait for the engine; each may be nil.
type Options struct {
	Backend Backend
	Log     Logger
	// Status is called with the revision's status when it changes: "STARTED", "READY", ...
	Status func(string)
	// Settled is called once, when all containers have reached their goals or no more
	// of them will: with the number that have, and the number of all.
	Settled func(reached, all int)
	// Stopping is called when the engine begins to stop, with the exit code to come.
	Stopping func(code int)
}

// permanentError is an error that another attempt cannot mend: a missing object, a
// configuration that cannot be read.
type permanentError struct{ err error }

func (p *permanentError) Error() string { return p.err.Error() }
func (p *permanentError) Unwrap() error { return p.err }

// Permanent marks an error of a [Backend] that another attempt cannot mend.
func Permanent(err error) error { return &permanentError{err} }

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

// Engine runs containers. Make one with [New].
type Engine struct {
	opt   Options
	log   Logger
	now   func() time.Time
	timer func(time.Duration, func()) (stop func())
	inbox chan func()
	over  chan struct{} // closed when the loop has ended
	slots chan struct{} // bounds work that runs at the same time

	groups  []*group
	units   []*unit // in the order of the state's names
	dirty   bool
	settled bool // every container has reached its goal or cannot
	closing bool
	code    int

	view  atomic.Pointer[view]
	shown status
}

// New returns an engine for a validated state.
func New(sys *manifest.System, opt Options) *Engine {
	e := &Engine{
		opt: opt, log: opt.Log, now: time.Now, inbox: make(chan func(), 64), over: make(chan struct{}),
		slots: make(chan struct{}, max(2, runtime.NumCPU())),
	}
	if opt.Status == nil {
		e.opt.Status = func(string) {}
	}
	if opt.Settled == nil {
		e.opt.Settled = func(int, int) {}
	}
	if opt.Stopping == nil {
		e.opt.Stopping = func(int) {}
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
	slices.SortFunc(e.units, func(a, b *unit) int { return cmp.Compare(a.c.Name, b.c.Name) })
	return e
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

// Add adds a container of the state that cannot run, so that it is listed with the
// reason. It must be called before [Engine.Run].
func (e *Engine) Add(c *manifest.Container, reason string) {
	u := &unit{c: c, goal: goalStatus[c.Goal], status: stopped, reason: reason}
	if u.goal == 0 {
		u.goal = started
	}
	e.units = append(e.units, u)
	slices.SortFunc(e.units, func(a, b *unit) int { return cmp.Compare(a.c.Name, b.c.Name) })
}

// post sends a message to the engine's goroutine.
func (e *Engine) post(f func()) {
	select {
	case e.inbox <- f:
	case <-e.over:
	}
}

// errOver is the error of a call to an engine that has ended.
var errOver = errors.New("the engine has ended")

// call runs f in the engine's goroutine and returns its result. Its effect is visible
// to readers when call returns.
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
	select { // the engine may have answered just before it ended
	case err := <-answer:
		return err
	default:
		return errOver
	}
}

// work runs f in a goroutine of its own, and then the function that f returns in the
// engine's goroutine.
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
	var cancelled bool // only touched by the engine's goroutine
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

// Run runs the containers until [Engine.Stop] is called or ctx ends, which acts as
// Stop with handoff.ExitReboot. It returns when all containers are stopped, with the
// exit code of the first reason to stop.
func (e *Engine) Run(ctx context.Context) int {
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
			e.shutdown(handoff.ExitReboot)
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

// complete reports whether no container of the group need be waited for any more.
func (g *group) complete() bool {
	return g.expired || !slices.ContainsFunc(g.units, func(u *unit) bool { return !u.settled() })
}

// settled reports whether a container has reached its goal, or is stopped and will not
// reach it soon.
func (u *unit) settled() bool {
	return u.reached || u.status == stopped
}

// checkSettled reports once that all groups are complete.
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
		e.log.Errorf("container %s did not reach %s: it is %s: %s", u.c.Name, u.goal, u.status, cmp.Or(u.reason, "time is over"))
	}
	e.opt.Settled(n, len(e.units))
}

// shutdown begins to stop all containers; the first call decides the exit code.
func (e *Engine) shutdown(code int) {
	if e.closing {
		return
	}
	e.closing, e.code, e.dirty = true, code, true
	e.opt.Stopping(code)
	for _, u := range e.units {
		u.cancelTimer()
		e.unstable(u)
	}
}

// closeGroups stops the last group that still has a running container.
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

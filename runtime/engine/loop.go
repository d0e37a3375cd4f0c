package engine

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/handoff"
)

// Backend carries out what the engine decides.
type Backend interface {
	// Mount mounts the volumes of a container. It may be called for several
	// containers at the same time. After a [Permanent] error it is not called again.
	// When ctx ends, the container is to be stopped and Mount should return soon.
	Mount(ctx context.Context, c *manifest.Container) (Instance, error)
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
	Log Logger
	// Status is called with the revision's status when it changes: "STARTED", "READY", ...
	Status func(string)
	// Settled is called once for each revision, when all containers have reached their
	// goals or no more of them will.
	Settled func(Outcome)
	// Failed is called when a container does not recover: it ended and nothing starts it
	// again, or only after a back-off; it cannot be started; or the time to reach its goal
	// is over. It is not called for what a user asks for.
	Failed func(Failure)
	// Adopted is called when a transition puts a revision in force: the containers that it
	// changes or lacks have ended, and none of its own has been started yet.
	Adopted func(revision string, ended []string)
	// Stable is called with true when the revision has settled and every container with a
	// stable_timeout is stable, or none has one; then with each change of that. With a
	// transition it is no longer so. What a user has stopped need not be stable.
	Stable func(bool)
	// Stopping is called when the engine begins to stop, with the exit code to come and what
	// it stops for.
	Stopping func(code int, why string)
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
	units  []*unit
	opened bool
	shown  status
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

	rev     Revision
	groups  []*group
	units   []*unit     // in the order of the state's names
	next    *transition // nil when none is in progress
	dirty   bool
	settled bool // every container has reached its goal or cannot
	stable  bool // as Options.Stable was last told
	trial   atomic.Bool
	closing bool
	code    int

	view  atomic.Pointer[view]
	shown status
}

// New returns an engine for a revision.
func New(rev Revision, opt Options) *Engine {
	e := &Engine{
		opt: opt.complete(), log: opt.Log, now: time.Now, inbox: make(chan func(), 64), over: make(chan struct{}),
		slots: make(chan struct{}, max(2, runtime.NumCPU())),
	}
	e.timer = func(d time.Duration, f func()) func() {
		t := time.AfterFunc(d, f)
		return func() { t.Stop() }
	}
	e.load(rev, nil)
	return e
}

// complete returns the options with a function in place of each that is nil.
func (o Options) complete() Options {
	if o.Status == nil {
		o.Status = func(string) {}
	}
	if o.Settled == nil {
		o.Settled = func(Outcome) {}
	}
	if o.Failed == nil {
		o.Failed = func(Failure) {}
	}
	if o.Adopted == nil {
		o.Adopted = func(string, []string) {}
	}
	if o.Stable == nil {
		o.Stable = func(bool) {}
	}
	if o.Stopping == nil {
		o.Stopping = func(int, string) {}
	}
	return o
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

// post sends a message to the engine's goroutine.
func (e *Engine) post(f func()) {
	select {
	case e.inbox <- f:
	case <-e.over:
	}
}

// errOver is the error of a call to an engine that has ended.
var errOver = &api.Error{Status: 503, Text: "The device is going down. Try again", RetryAfter: 30}

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
	e.failLost()
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
			e.shutdown(handoff.ExitReboot, "a signal to the runtime")
		}
	}
}

// reconcile does what the statuses call for.
func (e *Engine) reconcile() {
	if e.closing {
		e.closeGroups()
		return
	}
	if e.next != nil {
		e.leave()
		if e.next != nil {
			return
		}
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
	e.checkStable()
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
	}
}

// open opens a group: from now on, the time of its members runs.
func (e *Engine) open(g *group) {
	g.opened = true
	for _, u := range g.units {
		if !u.settled() {
			e.limit(u)
		}
	}
}

// limit starts the time that a container has to reach its goal.
func (e *Engine) limit(u *unit) {
	if u.c.Timeout <= 0 {
		return
	}
	u.deadline, e.dirty = e.now().Add(u.c.Timeout), true
	u.unlimit = e.after(u.c.Timeout, func() {
		if u.unlimited(); u.settled() {
			return
		}
		u.expired, e.dirty = true, true
		e.log.Warnf("container %s did not reach %s within %v; the next group starts", u.c.Name, u.goal, u.c.Timeout)
		e.fail(u)
	})
}

// unlimited ends the container's time: it has reached its goal, or it is over.
func (u *unit) unlimited() {
	if u.unlimit != nil {
		u.unlimit()
	}
	u.unlimit, u.deadline = nil, time.Time{}
}

// close ends the time of the group's members.
func (g *group) close() {
	for _, u := range g.units {
		u.unlimited()
	}
}

// complete reports whether no container of the group need be waited for any more.
func (g *group) complete() bool {
	return !slices.ContainsFunc(g.units, func(u *unit) bool { return !u.settled() && !u.expired })
}

// settled reports whether a container has reached its goal, or is stopped and will not
// reach it soon.
func (u *unit) settled() bool {
	return u.reached || u.status == stopped
}

// shutdown begins to stop all containers; the first call decides the exit code.
func (e *Engine) shutdown(code int, why string) {
	if e.closing {
		return
	}
	e.closing, e.code, e.dirty = true, code, true
	e.opt.Stopping(code, why)
	for _, u := range e.units {
		u.cancelTimer()
		u.unlimited()
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

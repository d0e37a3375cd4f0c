package engine

import (
	"context"
	"math"
	"time"

	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/runtime/handoff"
)

// stopGrace is how long a container may take to end before it is killed.
const stopGrace = 5 * time.Second

// Instance is one run of a container, from mounting its volumes to unmounting them.
type Instance interface {
	// Start starts its init.
	Start() error
	// Done is closed when init has ended. It may be called only after Start.
	Done() <-chan struct{}
	// Ending describes how init ended. It may be called only after Done is closed.
	Ending() string
	// Stop asks init to end and kills it when ctx ends; it reports whether it did.
	Stop(ctx context.Context) (killed bool)
	// Release unmounts the volumes.
	Release() error
}

// after is what happens to a container once it has ended as asked.
type after int

const (
	thenStopped after = iota // STOPPED by a user
	thenAgain                // INSTALLED, and so started again
	thenNothing              // shutdown
)

// unit is a container in the engine. Only the engine's goroutine touches it.
type unit struct {
	c    *manifest.Container
	goal status

	status status
	reason string // why it is not at its goal, "" while all is well
	lost   bool   // it cannot run in this revision

	inst    Instance // nil when nothing is mounted
	running bool     // its init has been started and has not been seen to end
	busy    bool     // work is in progress; a message reports its end
	next    after    // while STOPPING

	userStopped bool
	early       bool // it signalled ready before its start was known
	reached     bool // its goal was reached in this run
	retries     int
	stable      bool
	since       time.Time // of the last start
	abort       func()    // ends the mounting that is in progress, if any
	cancel      func()    // cancels the timer of the next step, if any
	unsettle    func()    // cancels the stability timer, if any
	unlimit     func()    // cancels the timer of deadline, if any
	deadline    time.Time // until when it is to reach its goal; zero for none
	expired     bool      // it did not reach its goal in time
}

// set changes the status and logs it.
func (e *Engine) set(u *unit, s status, reason string) {
	e.dirty = true
	if u.status == s && u.reason == reason {
		return
	}
	u.status, u.reason = s, reason
	switch {
	case reason == "":
		e.log.Infof("container %s is now %s", u.c.Name, s)
	default:
		e.log.Warnf("container %s is now %s: %s", u.c.Name, s, reason)
	}
	if atGoal(s, u.goal) {
		e.atGoal(u)
	}
}

func (e *Engine) atGoal(u *unit) {
	u.reached = true
	u.unlimited()
	if d := u.stableTimeout(); d > 0 && u.unsettle == nil && !u.stable {
		u.unsettle = e.after(d, func() {
			u.unsettle = nil
			u.stable, e.dirty = true, true
		})
	}
}

// recovery returns the recovery policy in force, nil for none.
func (u *unit) recovery() *manifest.AutoRecovery {
	if u.c.Recovery == nil || u.c.Recovery.Policy == "no" {
		return nil
	}
	return u.c.Recovery
}

// stableTimeout is how long it must be at its goal to be stable, 0 for none.
func (u *unit) stableTimeout() time.Duration {
	if r := u.recovery(); r != nil {
		return r.StableTimeout
	}
	return 0
}

// giveUp sets the status of a container that does not recover by itself.
func (e *Engine) giveUp(u *unit, reason string) {
	e.set(u, stopped, reason)
	e.fail(u)
}

// begin mounts a container and starts it unless being mounted is its goal.
func (e *Engine) begin(u *unit) {
	u.busy, u.early = true, false
	ctx, cancel := context.WithCancel(context.Background())
	u.abort = cancel
	backend, c := e.rev.Backend, u.c
	e.work(func() func() {
		inst, err := backend.Mount(ctx, c)
		cancel()
		return func() { e.mountedNow(u, inst, err) }
	})
}

func (e *Engine) mountedNow(u *unit, inst Instance, err error) {
	u.busy, u.abort = false, nil
	if err != nil {
		e.startFailed(u, err)
		return
	}
	u.inst = inst
	if u.status == stopping {
		e.release(u)
		return
	}
	e.set(u, mounted, "")
	if u.goal == mounted || e.closing {
		return
	}
	e.set(u, starting, "")
	u.busy = true
	e.work(func() func() {
		err := inst.Start()
		return func() { e.startedNow(u, err) }
	})
}

func (e *Engine) startedNow(u *unit, err error) {
	u.busy = false
	if err != nil {
		if u.status == stopping {
			e.release(u)
			return
		}
		e.startFailed(u, err)
		return
	}
	u.running, u.since = true, e.now()
	inst := u.inst
	go func() {
		<-inst.Done()
		e.post(func() { e.ended(u, inst.Ending()) })
	}()
	if u.status == stopping {
		e.ask(u)
		return
	}
	e.set(u, started, "")
	if u.early {
		e.set(u, ready, "")
	}
}

// startFailed handles a start that failed at any point.
func (e *Engine) startFailed(u *unit, err error) {
	reason := err.Error()
	if u.status == stopping {
		e.release(u)
		return
	}
	if isPermanent(err) {
		e.giveUp(u, reason)
	} else {
		e.recover(u, reason)
	}
	e.release(u)
}

// ended handles the end of init.
func (e *Engine) ended(u *unit, how string) {
	u.running = false
	if u.status != stopping {
		e.recover(u, how)
	}
	e.release(u)
}

// recover decides what follows an unexpected end.
func (e *Engine) recover(u *unit, reason string) {
	r := u.recovery()
	e.unstable(u)
	if r == nil || e.closing {
		e.giveUp(u, reason)
		return
	}
	if r.ResetWindow > 0 && !u.since.IsZero() && e.now().Sub(u.since) > r.ResetWindow {
		u.retries = 0
	}
	if r.MaxRetries > 0 && u.retries >= r.MaxRetries {
		e.exhausted(u, r, reason)
		return
	}
	u.retries++
	e.set(u, recovering, reason)
	e.again(u, delay(r, u.retries), func() { e.set(u, installed, reason) })
}

// maxDelay bounds a delay that grows by a factor.
const maxDelay = 24 * time.Hour

// delay is the pause before attempt n, from 1.
func delay(r *manifest.AutoRecovery, n int) time.Duration {
	factor := r.BackoffFactor
	if factor < 1 {
		factor = 1
	}
	d := float64(r.RetryDelay) * math.Pow(factor, float64(n-1))
	if d > float64(maxDelay) {
		return maxDelay
	}
	return time.Duration(d)
}

// exhausted handles a container that has used up its attempts. Under test, or when it is
// about to end anyway, its back-off policy does not count.
func (e *Engine) exhausted(u *unit, r *manifest.AutoRecovery, reason string) {
	e.giveUp(u, reason)
	switch {
	case e.trial.Load() || e.next.has(u):
	case r.BackoffWait > 0:
		e.again(u, r.BackoffWait, func() {
			u.retries = 0
			e.set(u, installed, reason)
		})
	case r.BackoffPolicy == "never":
	default:
		e.log.Errorf("container %s ended %d times and its back-off policy is reboot", u.c.Name, u.retries+1)
		e.shutdown(handoff.ExitReboot, "container "+u.c.Name+" ended too often")
	}
}

// again calls f after d, unless the container's timer is cancelled before.
func (e *Engine) again(u *unit, d time.Duration, f func()) {
	u.cancelTimer()
	u.cancel = e.after(d, func() {
		u.cancel = nil
		f()
	})
}

func (u *unit) cancelTimer() {
	if u.cancel != nil {
		u.cancel()
		u.cancel = nil
	}
}

func (e *Engine) unstable(u *unit) {
	if u.unsettle != nil {
		u.unsettle()
		u.unsettle = nil
	}
	u.stable = false
}

// stop asks a container to end, in any status; next is what happens then.
func (e *Engine) stop(u *unit, next after) {
	u.cancelTimer()
	e.unstable(u)
	u.next = next
	switch {
	case u.status == stopping:
		return
	case !u.busy && u.inst == nil:
		e.stoppedNow(u)
		return
	}
	e.set(u, stopping, "")
	if u.abort != nil {
		u.abort()
	}
	switch {
	case u.running:
		e.ask(u)
	case !u.busy:
		e.release(u)
	}
}

// ask asks init to end; ended handles its end.
func (e *Engine) ask(u *unit) {
	inst, name := u.inst, u.c.Name
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopGrace)
		defer cancel()
		if inst.Stop(ctx) {
			e.log.Warnf("container %s did not end within %v and was killed", name, stopGrace)
		}
	}()
}

// release unmounts the container's volumes.
func (e *Engine) release(u *unit) {
	inst := u.inst
	if inst == nil {
		e.released(u, nil)
		return
	}
	u.busy = true
	e.work(func() func() {
		err := inst.Release()
		return func() {
			u.inst, u.busy = nil, false
			e.released(u, err)
		}
	})
}

func (e *Engine) released(u *unit, err error) {
	if err != nil {
		e.log.Errorf("container %s: %v", u.c.Name, err)
	}
	if u.status == stopping {
		e.stoppedNow(u)
	}
}

// stoppedNow sets the status that follows a requested end.
func (e *Engine) stoppedNow(u *unit) {
	switch u.next {
	case thenAgain:
		u.userStopped = false
		e.set(u, installed, "")
	case thenStopped:
		u.userStopped = true
		e.set(u, stopped, "")
	default:
		e.set(u, stopped, "")
	}
}

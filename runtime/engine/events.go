package engine

import (
	"cmp"
	"time"
)

// Outcome is how the start of a revision's containers ended.
type Outcome struct {
	Revision string
	Reached  int // containers that have reached their goals
	All      int
	// Below are the containers that have not, by name; those that a user has stopped are
	// not among them.
	Below []Failure
}

// Failure is a container that is not at its goal and will not be soon.
type Failure struct {
	Revision  string
	Container string
	Group     string // "" for a container without one
	Goal      string // "MOUNTED", "STARTED" or "READY"
	Status    string // its status, as GET /containers shows it
	// Reason is why: how its init ended, such as "exited with code 1" or "killed by
	// SIGKILL", or the error of its start. It may be empty with Timeout.
	Reason string
	// Retries is how often it has been started again.
	Retries int
	// Timeout is the time that it had to reach its goal, when that is over; else 0.
	Timeout time.Duration
}

func (e *Engine) failure(u *unit) Failure {
	f := Failure{
		Revision: e.rev.Name, Container: u.c.Name, Group: u.c.Group, Goal: u.goal.String(), Status: u.status.String(),
		Reason: u.reason, Retries: u.retries,
	}
	if u.expired && !u.reached {
		f.Timeout = u.c.Timeout
	}
	return f
}

// fail reports a container that does not recover.
func (e *Engine) fail(u *unit) {
	if !e.closing && !e.next.has(u) {
		e.opt.Failed(e.failure(u))
	}
}

// has reports whether the container ends with the transition. A nil transition has none.
func (t *transition) has(u *unit) bool { return t != nil && t.leaving[u] }

// SetTrial says whether the revision is under test: then a container that has exhausted its
// retries is only reported to Options.Failed, whatever its back-off policy (manual: Updates,
// TESTING). It may be called at any time.
func (e *Engine) SetTrial(on bool) { e.trial.Store(on) }

// checkSettled reports that all groups are complete, once for each revision.
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
	o := Outcome{Revision: e.rev.Name, All: len(e.units)}
	for _, u := range e.units {
		switch {
		case u.reached:
			o.Reached++
		case !u.userStopped:
			o.Below = append(o.Below, e.failure(u))
			e.log.Errorf("container %s did not reach %s: it is %s: %s", u.c.Name, u.goal, u.status, cmp.Or(u.reason, "time is over"))
		}
	}
	e.opt.Settled(o)
}

// checkStable reports changes of whether all containers are stable.
func (e *Engine) checkStable() {
	if !e.settled {
		return
	}
	stable := true
	for _, u := range e.units {
		stable = stable && (u.stable || u.userStopped || u.stableTimeout() == 0)
	}
	if stable != e.stable {
		e.stable = stable
		e.opt.Stable(stable)
	}
}

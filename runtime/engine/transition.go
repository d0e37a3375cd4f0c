package engine

import (
	"cmp"
	"slices"

	"github.com/pantavisor/pantavisor/revision/manifest"
)

// Revision is what an [Engine] runs: the containers and groups of one state.
type Revision struct {
	// Name is the revision's, for the events.
	Name string
	// System is the validated state.
	System *manifest.System
	// Backend mounts the containers that start in this revision.
	Backend Backend
	// Lost are containers of the state that cannot run, with the reasons: they are listed
	// as STOPPED, in no group.
	Lost map[string]string
}

// transition is a change to another revision that waits until the containers that must not
// run in it have ended.
type transition struct {
	Revision
	leaving map[*unit]bool  // that end or are replaced
	stopped map[string]bool // replaced containers that a user wants to be stopped
}

// Transition begins to run another revision instead of the present one, and returns at
// once; the next events are about rev. First the containers in changed and those that rev
// does not have are stopped, the last group first. Then rev's definitions and groups come
// into force, and its groups open again in order. A container that is in both revisions and
// not in changed goes on with its instance, its status and its retries; only its next start
// uses rev's Backend. A container in changed, with another goal, or that has ended for good
// without ever reaching its goal, starts afresh.
//
// A transition may begin before the one before it has settled: a rollback is one.
// Transition returns [ErrBusy] when the engine is stopping.
func (e *Engine) Transition(rev Revision, changed []string) error {
	return e.call(func() error {
		if e.closing {
			return ErrBusy
		}
		t := &transition{Revision: rev, leaving: map[*unit]bool{}, stopped: map[string]bool{}}
		if e.next != nil { // the earlier containers are stopping already
			t.leaving, t.stopped = e.next.leaving, e.next.stopped
		}
		for _, u := range e.units {
			c, ok := rev.System.Container(u.c.Name)
			if !ok || u.gaveUp() || c.Goal != u.c.Goal || slices.Contains(changed, u.c.Name) {
				t.leaving[u] = true
			}
		}
		e.next, e.settled = t, false
		if e.stable { // what was said of the revision before must not be taken for rev's
			e.stable = false
			e.opt.Stable(false)
		}
		for _, g := range e.groups {
			g.close()
		}
		return nil
	})
}

// gaveUp reports whether a container has ended for good and never was at its goal.
func (u *unit) gaveUp() bool { return u.status == stopped && !u.userStopped && !u.reached }

// leave stops the containers that end with the transition, group by group from the last,
// and adopts the new revision when they have ended.
func (e *Engine) leave() {
	for _, g := range slices.Backward(e.groups) {
		rest := true
		for _, u := range g.units {
			if e.next.leaving[u] {
				e.leaveUnit(u)
				rest = rest && u.atRest()
			}
		}
		if !rest {
			return
		}
	}
	e.adopt()
}

// leaveUnit stops one container for good.
func (e *Engine) leaveUnit(u *unit) {
	u.cancelTimer()
	if !u.atRest() || u.status != stopped {
		e.stop(u, thenNothing)
	}
}

// adopt puts the new revision in force.
func (e *Engine) adopt() {
	t := e.next
	e.next, e.dirty = nil, true
	kept, ended := map[string]*unit{}, []string{}
	for _, u := range e.units {
		if t.leaving[u] {
			ended = append(ended, u.c.Name)
		} else {
			kept[u.c.Name] = u
		}
	}
	e.load(t.Revision, kept)
	e.opt.Adopted(t.Name, ended)
	for _, u := range e.units {
		if t.stopped[u.c.Name] && kept[u.c.Name] == nil && !u.lost {
			u.status, u.userStopped = stopped, true
		}
	}
	e.failLost()
}

// failLost reports the containers that cannot run.
func (e *Engine) failLost() {
	for _, u := range e.units {
		if u.lost {
			e.fail(u)
		}
	}
}

// act takes a user's request for a container that is to end: it is about the container of
// the same name in the next revision, which starts unless it is to be stopped.
func (t *transition) act(u *unit, action string) error {
	switch action {
	case "stop":
		t.stopped[u.c.Name] = true
	case "start", "restart":
		delete(t.stopped, u.c.Name)
	default:
		return errAction
	}
	return nil
}

// load makes the groups and containers of a revision, with the kept containers in it.
func (e *Engine) load(rev Revision, kept map[string]*unit) {
	e.rev, e.groups, e.units = rev, nil, nil
	for _, g := range rev.System.Groups {
		e.groups = append(e.groups, &group{Group: g})
	}
	for i := range rev.System.Containers {
		c := &rev.System.Containers[i]
		u := kept[c.Name]
		if u == nil {
			u = &unit{goal: goalStatus[c.Goal], status: installed}
		}
		u.c, u.expired = c, false
		e.units = append(e.units, u)
		if g := e.group(c.Group); g != nil {
			g.units = append(g.units, u)
		}
	}
	for name, reason := range rev.Lost {
		c := &manifest.Container{Name: name, Goal: manifest.Started}
		e.units = append(e.units, &unit{c: c, goal: started, status: stopped, reason: reason, lost: true})
	}
	slices.SortFunc(e.units, func(a, b *unit) int { return cmp.Compare(a.c.Name, b.c.Name) })
}

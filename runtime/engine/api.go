package engine

import (
	"cmp"
	"slices"
	"time"

	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
)

// view is the snapshot that readers see: the engine replaces it and never changes it.
type view struct {
	containers []api.Container
	groups     []api.Group
	limits     map[string]limit // of containers and, as "group/NAME", of groups
	mgmt       map[string]bool  // every container by name
}

// limit is the time that a container has to reach its goal, while it runs.
type limit struct {
	whole time.Duration
	end   time.Time
}

// remaining returns the whole time of a limit of the view in seconds, and how many whole
// seconds are left; 0 and nil without one.
func (v *view) remaining(name string, now time.Time) (whole int, left *int) {
	l, ok := v.limits[name]
	if !ok {
		return 0, nil
	}
	s := int(max(0, l.end.Sub(now)+time.Second-1) / time.Second)
	return int(l.whole.Seconds()), &s
}

// groupKey makes the keys of groups; a container's name has no slash.
const groupKey = "group/"

// publish makes a new view and reports changed statuses of groups and of the revision.
func (e *Engine) publish() {
	e.dirty = false
	v := &view{mgmt: make(map[string]bool, len(e.units)), containers: make([]api.Container, 0, len(e.units)), limits: map[string]limit{}}
	for _, u := range e.units {
		v.containers = append(v.containers, u.show())
		v.mgmt[u.c.Name] = u.c.Mgmt
		if u.deadline.IsZero() || u.settled() {
			continue
		}
		l := limit{u.c.Timeout, u.deadline}
		v.limits[u.c.Name] = l
		if g := groupKey + u.c.Group; v.limits[g].end.Before(l.end) {
			v.limits[g] = l
		}
	}
	for _, g := range e.groups {
		s := lowest(g.units)
		if g.shown != s && len(g.units) > 0 {
			e.log.Debugf("group %s is now %s", g.Name, s)
		}
		g.shown = s
		v.groups = append(v.groups, g.show(s))
	}
	e.view.Store(v)
	if s := lowest(e.units); s != e.shown {
		e.shown = s
		e.opt.Status(s.String())
	}
}

func (u *unit) show() api.Container {
	c := api.Container{
		Name: u.c.Name, Status: u.status.String(), StatusGoal: u.goal.String(),
		RestartPolicy: cmp.Or(string(u.c.Restart), "unknown"), Roles: []string{}, StatusReason: u.reason,
	}
	if u.c.Group != "" {
		c.Group = &u.c.Group
	}
	if u.c.Mgmt {
		c.Roles = append(c.Roles, manifest.RoleMgmt)
	}
	if r := u.recovery(); r != nil {
		c.AutoRecovery = &api.AutoRecovery{
			Policy: r.Policy, MaxRetries: r.MaxRetries, CurrentRetries: u.retries,
			StableTimeout: int(r.StableTimeout.Seconds()), IsStable: yes(u.stable), BackoffPolicy: backoff(r),
		}
	}
	if u.c.Restart == manifest.RestartContainer {
		c.UserStopped = yes(u.userStopped)
	}
	return c
}

func yes(b bool) string {
	if b {
		return "true"
	}
	return "false"
}

func backoff(r *manifest.AutoRecovery) string { return cmp.Or(r.BackoffPolicy, "reboot") }

func (g *group) show(s status) api.Group {
	out := api.Group{Name: g.Name, StatusGoal: string(g.Goal), RestartPolicy: string(g.Restart), Status: s.String()}
	if r := g.Recovery; r != nil {
		out.AutoRecovery = &api.GroupRecovery{MaxRetries: r.MaxRetries, StableTimeout: int(r.StableTimeout.Seconds()), BackoffPolicy: backoff(r)}
	}
	return out
}

// ErrNotLoaded is the error of the lists while no state is loaded.
var ErrNotLoaded = &api.Error{Status: 500, Text: "State not loaded yet"}

// Containers lists the containers by name.
func (e *Engine) Containers() ([]api.Container, error) {
	v := e.view.Load()
	if v == nil {
		return nil, ErrNotLoaded
	}
	if len(v.limits) == 0 {
		return v.containers, nil // the same list again: its text need not be made again
	}
	out, now := slices.Clone(v.containers), e.now()
	for i := range out {
		out[i].Timeout, out[i].TimeoutRemaining = v.remaining(out[i].Name, now)
	}
	return out, nil
}

// Groups lists the groups in the order of starting.
func (e *Engine) Groups() ([]api.Group, error) {
	v := e.view.Load()
	if v == nil {
		return nil, ErrNotLoaded
	}
	out, now := slices.Clone(v.groups), e.now()
	for i := range out {
		out[i].Timeout, out[i].TimeoutRemaining = v.remaining(groupKey+out[i].Name, now)
	}
	return out, nil
}

// ContainerAction starts, stops or restarts a container.
func (e *Engine) ContainerAction(name, action string) error {
	return e.call(func() error {
		u := e.unit(name)
		if u == nil {
			return &api.Error{Status: 404, Text: "Container not found"}
		}
		if u.c.Restart != manifest.RestartContainer {
			return &api.Error{Status: 403, Text: "Container has restart_policy 'system' and cannot be controlled via API"}
		}
		if e.closing {
			return ErrBusy
		}
		if e.next.has(u) {
			return e.next.act(u, action)
		}
		return e.act(u, action)
	})
}

var errAction = &api.Error{Status: 400, Text: "Invalid action. Use 'start', 'stop', or 'restart'"}

func (e *Engine) act(u *unit, action string) error {
	switch action {
	case "stop":
		if u.status != stopped || !u.userStopped {
			e.stop(u, thenStopped)
		}
	case "start":
		switch u.status {
		case stopped, recovering, stopping:
			e.afresh(u)
		case installed, mounted, blocked:
			return &api.Error{Status: 400, Text: "Container must be in STOPPED, STOPPING, or RECOVERING state to start"}
		}
	case "restart":
		if u.status == installed || u.status == blocked || u.status == mounted {
			return &api.Error{Status: 400, Text: "Container state does not allow restart"}
		}
		e.afresh(u)
	default:
		return errAction
	}
	return nil
}

// afresh stops a container and starts it as if it had never been started.
func (e *Engine) afresh(u *unit) {
	u.retries, u.userStopped = 0, false
	e.stop(u, thenAgain)
}

// ErrUnexpected is the error of a signal that the engine does not expect.
var ErrUnexpected = &api.Error{Status: 500, Text: "Signal not expected from this platform"}

// Ready handles a container's signal that it is ready. A container whose goal is not
// READY gets [ErrUnexpected].
func (e *Engine) Ready(name string) error {
	return e.call(func() error {
		u := e.unit(name)
		if u == nil || u.goal != ready {
			return ErrUnexpected
		}
		switch u.status {
		case started:
			e.set(u, ready, "")
		case ready:
		case starting: // the signal overtook the message that the start succeeded
			u.early = true
		default:
			return ErrUnexpected
		}
		return nil
	})
}

// ErrBusy is the error of a request while the engine stops, or while the same operation
// is in progress.
var ErrBusy = &api.Error{Status: 503, Text: "A command is already in progress. Try again", RetryAfter: 120}

// Stop begins to stop all containers; code is what [Engine.Run] returns, why is what they
// are stopped for, as "SIGTERM". It returns
// [ErrBusy] when the engine is already stopping.
func (e *Engine) Stop(code int, why string) error {
	return e.call(func() error {
		if e.closing {
			return ErrBusy
		}
		e.shutdown(code, why)
		return nil
	})
}

// Stopping returns [ErrBusy] once the engine is stopping, nil before.
func (e *Engine) Stopping() error {
	return e.call(func() error {
		if e.closing {
			return ErrBusy
		}
		return nil
	})
}

// Role reports whether a container of the state has the role mgmt. known is false when
// there is no container of that name or no state.
func (e *Engine) Role(name string) (mgmt, known bool) {
	if v := e.view.Load(); v != nil {
		mgmt, known = v.mgmt[name]
	}
	return mgmt, known
}

package device

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/engine"
)

// revision is a revision that the session runs or has run, with what belongs to it alone.
type revision struct {
	name   string
	trail  string       // the directory of its files
	logs   string       // the directory of its log files
	state  *state.State // nil when it cannot be read
	loaded *loaded      // nil when it cannot be used
	broken error        // why it cannot be used
	unmade error        // why some of its files could not be made
	host   *host
	pools  []poolPlan
	began  time.Time
	// users counts the mounted containers that use its files.
	users atomic.Int32
}

// system returns the validated state, an empty one when it cannot be used.
func (r *revision) system() *manifest.System {
	if r.loaded == nil {
		return &manifest.System{}
	}
	return r.loaded.sys
}

// forEngine returns what the engine runs.
func (r *revision) forEngine() engine.Revision {
	out := engine.Revision{Name: r.name, System: r.system(), Backend: r.host}
	if r.loaded != nil {
		out.Lost = r.loaded.lostContainers()
	}
	return out
}

// revisions are the revision that the session runs and, before it, the earlier ones whose
// containers may still run. Its methods may be called at the same time.
type revisions struct {
	mu      sync.Mutex
	list    []*revision // never empty after the first call of run
	pending bool        // containers of earlier revisions are being stopped
}

// run makes r the running revision; pending says that the one before is still being stopped.
func (r *revisions) run(rev *revision, pending bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list, r.pending = append(r.list, rev), pending
}

// running returns the running revision.
func (r *revisions) running() *revision {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.list[len(r.list)-1]
}

// adopted says that the engine has put the revision in force.
func (r *revisions) adopted(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.list[len(r.list)-1].name == name {
		r.pending = false
		r.prune()
	}
}

// cancel takes back run, when the revision will not run after all.
func (r *revisions) cancel(rev *revision) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list, r.pending = slices.DeleteFunc(r.list, func(l *revision) bool { return l == rev }), false
}

// prune forgets the revisions whose files are no longer in use.
func (r *revisions) prune() {
	last := r.list[len(r.list)-1]
	if !r.pending {
		r.list = slices.DeleteFunc(r.list, func(l *revision) bool { return l != last && l.users.Load() == 0 })
	}
}

// inUse returns the names of the revisions whose files are in use: the running one, and
// those of containers that have gone on through a transition.
func (r *revisions) inUse() (names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.prune()
	for _, rev := range r.list {
		if !slices.Contains(names, rev.name) {
			names = append(names, rev.name)
		}
	}
	return names
}

// transition makes the session run another revision without a reboot: the containers in
// changed and those that rev lacks are stopped, the others go on. It returns when the engine
// has taken it; the engine's events say what became of it. On an error nothing has changed.
//
// What belongs to the device and not to a container is not exchanged: the runtime's own
// volumes, the OEM's configuration, the BSP. A change of these takes a reboot.
func (s *session) transition(rev string, changed []string) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	r := s.checkOut(rev)
	s.loadState(r)
	if err := cmp.Or(r.broken, r.unmade); err != nil {
		return fmt.Errorf("changing to revision %s: %w", rev, err)
	}
	s.makeHost(r)
	r.pools = r.host.planPools(r.system())
	s.log.Infof("changing to revision %s: of its %d containers %d change", rev, len(r.system().Containers), len(changed))
	s.revs.run(r, true)
	if err := s.engine.Transition(r.forEngine(), changed); err != nil {
		s.revs.cancel(r)
		return fmt.Errorf("changing to revision %s: %w", rev, err)
	}
	s.adopt(r)
	s.device.publish("pantavisor.revision", rev)
	s.device.support(r.state)
	return nil
}

// adopted is called by the engine when no container that the revision changes or lacks runs
// any more, and none of its own has been started yet.
func (s *session) adopted(rev string, ended []string) {
	s.revs.adopted(rev)
	r := s.revs.running()
	if r.name != rev { // another one follows
		return
	}
	if err := s.logs.SetRevision(rev); err != nil {
		s.log.Errorf("%v", err)
	}
	if err := r.host.mounter.Drop(ended); err != nil {
		s.log.Warnf("%v", err)
	}
	r.host.addPools(r.pools)
	s.drivers.Change(r.system())
	s.services.start("unloading drivers", func(context.Context) error { s.drivers.Sweep(); return nil })
}

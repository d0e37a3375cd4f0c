package device

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/space"
	"github.com/pantavisor/pantavisor/runtime/step"
)

// admission decides whether there is space for a revision.
type admission struct {
	usage   func() (space.Usage, error)
	objects string // the directory of the object store
	garbage func() *step.Garbage
}

// check returns an error, a [space.Error] with the numbers among others, when there is not
// enough for a state whose objects are there.
func (a *admission) check(st *state.State) error {
	needs, err := a.needs(st)
	for _, n := range needs {
		err = errors.Join(err, n.Err())
	}
	return err
}

func (a *admission) needs(st *state.State) ([]space.Need, error) {
	u, err := a.usage()
	if err != nil {
		return nil, err
	}
	store, err := objects.Open(a.objects)
	if err != nil {
		return nil, err
	}
	in := space.Install{State: st, Have: store.Size}
	needs, _ := in.Needs(u)
	return needs, nil
}

// answer is check with an answer to a client, which learns what collecting garbage would free.
func (a *admission) answer(st *state.State) error {
	err := a.check(st)
	if _, full := errors.AsType[*space.Error](err); !full {
		return err
	}
	e := &api.Error{Status: 507, Text: "Not enough disk space available", Details: strings.Split(err.Error(), "\n")}
	if free, err := a.garbage().Reclaimable(); err == nil && free > 0 {
		e.Details = append(e.Details, fmt.Sprintf("collecting garbage would free %d B", free))
	}
	return e
}

package ctrl

import (
	"errors"

	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/step"
)

// putHold keeps the objects of a state that is yet to become a step: see [step.Store.Hold]. Each
// container has its own names.
func (s *Server) putHold(c *call) *reply {
	doc, release, bad := s.stateOf(c)
	if bad != nil {
		return bad
	}
	defer release()
	s.serial.steps.Lock() // it takes memory, as a step that is stored
	defer s.serial.steps.Unlock()
	st, err := state.Parse(doc)
	if err != nil {
		return failure(422, textStepState, err.Error())
	}
	room, err := s.o.Space.Reserve(int64(len(doc)))
	if err != nil {
		return storageError(err)
	}
	defer room.Release()
	err = s.o.Steps.Hold(c.caller.Name, c.name(), st.Sums())
	switch {
	case errors.Is(err, step.ErrHolds):
		return failure(409, "Too many objects are held: "+step.ErrHolds.Error())
	case err != nil:
		return storageError(err)
	}
	return ok()
}

func (s *Server) deleteHold(c *call) *reply {
	if err := s.o.Steps.Release(c.caller.Name, c.name()); err != nil {
		return storageError(err)
	}
	return ok()
}

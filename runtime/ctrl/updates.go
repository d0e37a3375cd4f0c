package ctrl

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/step"
)

// Updates are the device's updates. Errors are as in [Engine].
type Updates interface {
	// List returns the updates that the device remembers, oldest first.
	List() []api.Update
	// Start begins an update; what becomes of it is in the list.
	Start(ctx context.Context, r api.UpdateRequest) error
	// Cancel ends an update that waits for a reboot or for its time.
	Cancel(ctx context.Context, rev string) error
	// Progress returns the progress of a revision that was asked for and is not stored;
	// nil when nobody did.
	Progress(rev string) []byte
	// CheckStored and CheckState say what an update would do. They write nothing.
	CheckStored(rev string) (api.UpdateCheck, error)
	CheckState(doc []byte) (api.UpdateCheck, error)
}

const textNoUpdates = "Updates are not available"

func (s *Server) listUpdates(*call) *reply {
	if s.o.Updates == nil {
		return failure(501, textNoUpdates)
	}
	return okJSON(append([]api.Update{}, s.o.Updates.List()...)) // never null
}

// getUpdate answers with the updates of one revision.
func (s *Server) getUpdate(c *call) *reply {
	if s.o.Updates == nil {
		return failure(501, textNoUpdates)
	}
	rev := c.step()
	list := slices.DeleteFunc(s.o.Updates.List(), func(u api.Update) bool { return u.Revision != rev })
	switch {
	case rev == "":
		return failure(404, textNoStep)
	case len(list) == 0:
		return failure(404, "There was no update to revision "+rev)
	}
	return okJSON(list)
}

func (s *Server) startUpdate(c *call) *reply {
	text, bad := c.content(limitCommand)
	if bad != nil {
		return bad
	}
	var r api.UpdateRequest
	if err := json.Unmarshal(text, &r); err != nil || r.Revision == "" {
		return failure(400, `Update has bad format: want {"revision": "NAME", "mode": "run", "when": ""}`)
	}
	return s.change(func(u Updates) error { return u.Start(c.ctx, r) })
}

func (s *Server) cancelUpdate(c *call) *reply {
	return s.change(func(u Updates) error { return u.Cancel(c.ctx, c.step()) })
}

func (s *Server) change(do func(Updates) error) *reply {
	if s.o.Updates == nil {
		return failure(501, textNoUpdates)
	}
	if err := do(s.o.Updates); err != nil {
		return fromError(err)
	}
	return ok()
}

// checked returns the name of the step behind /updates/check, "" when it is not a valid name.
func (c *call) checked() string {
	rev := strings.Join(c.parts[2:], "/")
	if !step.Valid(rev) {
		return ""
	}
	return rev
}

// checkStored answers what an update to a stored revision would do.
func (s *Server) checkStored(c *call) *reply {
	rev := c.checked()
	if rev == "" {
		return failure(404, textNoStep)
	}
	return s.checkUpdate(func(u Updates) (api.UpdateCheck, error) { return u.CheckStored(rev) })
}

// checkState answers what an update to the state in the body would do.
func (s *Server) checkState(c *call) *reply {
	state, release, bad := s.stateOf(c)
	if bad != nil {
		return bad
	}
	defer release()
	return s.checkUpdate(func(u Updates) (api.UpdateCheck, error) { return u.CheckState(state) })
}

func (s *Server) checkUpdate(check func(Updates) (api.UpdateCheck, error)) *reply {
	if s.o.Updates == nil {
		return failure(501, textNoUpdates)
	}
	s.serial.steps.Lock() // it takes memory, as a step that is stored
	defer s.serial.steps.Unlock()
	result, err := check(s.o.Updates)
	if err != nil {
		return fromError(err)
	}
	return okJSON(result)
}

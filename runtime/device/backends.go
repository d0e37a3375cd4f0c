package device

import (
	"errors"
	"fmt"

	"github.com/pantavisor/pantavisor/runtime/container"
	"github.com/pantavisor/pantavisor/runtime/ctrl"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/engine"
	"github.com/pantavisor/pantavisor/runtime/logs"
)

// identity tells callers apart.
type identity struct {
	tree  *container.Tree
	role  func(name string) (mgmt, known bool) // of a container
	owner func(pid int, group string) bool     // as Options.Owner
}

// resolve names the caller with this process ID by its control group.
func (id *identity) resolve(pid int) (ctrl.Caller, error) {
	if id.tree == nil {
		return ctrl.Caller{}, errors.New("there are no control groups to tell callers by")
	}
	group, err := id.tree.GroupOf(pid)
	if err != nil {
		return ctrl.Caller{}, err
	}
	name, own, ok := id.tree.NameOf(group)
	// On a machine of somebody else the runtime's group may be a session's, or everybody's.
	if own && (id.owner == nil || id.owner(pid, group)) {
		return ctrl.Caller{Name: ctrl.Runtime, Mgmt: true}, nil
	}
	if mgmt, known := id.role(name); ok && !own && known {
		return ctrl.Caller{Name: name, Mgmt: mgmt}, nil
	}
	if !ok && id.owner != nil && id.owner(pid, group) {
		return ctrl.Caller{Name: ctrl.Runtime, Mgmt: true}, nil
	}
	return ctrl.Caller{}, fmt.Errorf("process %d in control group %s is nobody known", pid, group)
}

// platform names a sender of log messages.
func (s *session) platform(pid int) (string, error) {
	id := s.id.Load()
	if id == nil {
		return "", engine.ErrNotLoaded
	}
	c, err := id.resolve(pid)
	if c.Name == ctrl.Runtime {
		return logs.Runtime, nil
	}
	return c.Name, err
}

// backends joins what the control socket asks of the engine with what it asks of the
// device.
type backends struct {
	*engine.Engine
	*commands
	broken error // why there is no state; nil when there is one
}

var _ ctrl.Engine = backends{}

// notLoaded answers lists when the state cannot be used: with the reason, so that
// whoever asks over the network learns it without the log.
func (b backends) notLoaded() error {
	return &api.Error{Status: engine.ErrNotLoaded.Status, Text: engine.ErrNotLoaded.Text + ": " + b.broken.Error()}
}

// Containers implements ctrl.Engine; without a state there is no list.
func (b backends) Containers() ([]api.Container, error) {
	if b.broken != nil {
		return nil, b.notLoaded()
	}
	return b.Engine.Containers()
}

// Groups implements ctrl.Engine.
func (b backends) Groups() ([]api.Group, error) {
	if b.broken != nil {
		return nil, b.notLoaded()
	}
	return b.Engine.Groups()
}

// Signal implements ctrl.Engine; "ready" is the one that the engine waits for.
func (b backends) Signal(from ctrl.Caller, typ, _ string) error {
	if typ != "ready" {
		return engine.ErrUnexpected
	}
	return b.Ready(from.Name)
}

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

// identity identifies the processes that talk to the runtime's sockets.
type identity struct {
	tree  *container.Tree
	of    func(pid int) (container string, err error) // the container of a process
	role  func(name string) (mgmt, known bool)        // of a container
	owner func(pid int, group string) bool            // as Options.Owner
}

// resolve identifies the caller with this process ID.
func (id *identity) resolve(pid int) (ctrl.Caller, error) {
	if id.tree == nil {
		return ctrl.Caller{}, errors.New("there are no control groups to tell callers by")
	}
	name, err := id.of(pid)
	if err != nil {
		return ctrl.Caller{}, err
	}
	if name != "" {
		if mgmt, known := id.role(name); known {
			return ctrl.Caller{Name: name, Mgmt: mgmt}, nil
		}
		return ctrl.Caller{}, fmt.Errorf("process %d is in the container %s, which is not of this revision", pid, name)
	}
	group, err := id.tree.GroupOf(pid)
	if err != nil {
		return ctrl.Caller{}, err
	}
	_, own, _ := id.tree.NameOf(group)
	// In App Engine the runtime's group may be that of a login session, or the root group.
	if id.owner != nil && id.owner(pid, group) || own && id.owner == nil && container.SharesMounts(pid) {
		return ctrl.Caller{Name: ctrl.Runtime, Mgmt: true}, nil
	}
	return ctrl.Caller{}, fmt.Errorf("process %d in control group %s is nobody known", pid, group)
}

// platform returns the name under which the process's log messages are kept.
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

// backends implements [ctrl.Engine] with the engine and the commands of the device.
type backends struct {
	*engine.Engine
	*commands
	broken func() error // why there is no state; nil when it is loaded
}

var _ ctrl.Engine = backends{}

// notLoaded is the answer to lists when the state cannot be used, else nil. It has the reason, so
// that a remote client learns it without access to the log.
func (b backends) notLoaded() error {
	err := b.broken()
	if err == nil {
		return nil
	}
	return &api.Error{Status: engine.ErrNotLoaded.Status, Text: engine.ErrNotLoaded.Text + ": " + err.Error()}
}

// Containers implements ctrl.Engine; without a state there is no list.
func (b backends) Containers() ([]api.Container, error) {
	if err := b.notLoaded(); err != nil {
		return nil, err
	}
	return b.Engine.Containers()
}

// Groups implements ctrl.Engine.
func (b backends) Groups() ([]api.Group, error) {
	if err := b.notLoaded(); err != nil {
		return nil, err
	}
	return b.Engine.Groups()
}

// Signal implements ctrl.Engine; only "ready" is expected.
func (b backends) Signal(from ctrl.Caller, typ, _ string) error {
	if typ != "ready" {
		return engine.ErrUnexpected
	}
	return b.Ready(from.Name)
}

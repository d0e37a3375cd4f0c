// Package ctrl is the server of the control socket: the HTTP API on <run>/pv-ctrl that
// containers and the tools on the device use. Its client is package runtime/ctrl/client;
// the types on the wire are in runtime/ctrl/api.
//
// A new endpoint is one line in the table of routes (route.go) and a handler in the
// file of its subject. What the handler needs from the device is a field of [Options],
// which package device sets; the bodies are types of package api. Describe the endpoint
// in docs/control.md and add a command to package pvcontrol.
package ctrl

import (
	"io"

	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
)

// Caller is who sent a request, resolved from the peer's cgroup.
type Caller struct {
	Name string // container name; "_pv_" is the runtime itself
	Mgmt bool   // true for the runtime and for containers with role mgmt
}

// Runtime is the name of the runtime itself as a caller.
const Runtime = "_pv_"

// Engine is the container engine, and the device around it, as the control socket needs
// them. Every method returns at once: long work is queued. Errors meant for the client
// are *api.Error; any other error is answered with 500.
type Engine interface {
	// Containers lists the containers. The list must not change once it was returned:
	// after a change another list is returned.
	Containers() ([]api.Container, error)
	Groups() ([]api.Group, error)
	// ContainerAction takes "start", "stop" or "restart".
	ContainerAction(name, action string) error
	// Signal is a message of a container about itself; only "ready" is known.
	Signal(from Caller, typ, payload string) error
	// Command queues one operation of POST /commands; op is one of [api.Ops].
	Command(op, payload string) error
}

// Daemons are the programs that the runtime keeps running. Errors are as in [Engine].
type Daemons interface {
	Daemons() ([]api.Daemon, error)
	// DaemonAction takes "start" or "stop".
	DaemonAction(name, action string) error
}

// Meta is one of the two key-value stores of a device, user-meta or device-meta.
type Meta interface {
	// List writes the JSON object of GET /user-meta or /device-meta.
	List(w io.Writer) error
	Set(key, value string) error
	Delete(key string) error
}

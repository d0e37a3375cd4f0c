// Package ctrl is the control socket: the HTTP API on <run>/pv-ctrl that
// containers and the tools on the device use.
package ctrl

import "io"

// Caller is who sent a request, resolved from the peer's cgroup.
type Caller struct {
	Name string // container name; "_pv_" is the runtime itself
	Mgmt bool   // true for the runtime and for containers with role mgmt
}

// Runtime is the name of the runtime itself as a caller.
const Runtime = "_pv_"

// AutoRecovery is the auto_recovery object of a container as /containers shows it.
type AutoRecovery struct {
	Policy         string `json:"policy"`
	MaxRetries     int    `json:"max_retries"`
	CurrentRetries int    `json:"current_retries"`
	StableTimeout  int    `json:"stable_timeout"`
	IsStable       string `json:"is_stable"` // "true" or "false"
	BackoffPolicy  string `json:"backoff_policy"`
}

// Container is one element of GET /containers; fields in the order on the wire.
type Container struct {
	Name          string        `json:"name"`
	Group         *string       `json:"group"`
	Status        string        `json:"status"`
	StatusGoal    string        `json:"status_goal"`
	RestartPolicy string        `json:"restart_policy"`
	Roles         []string      `json:"roles"`
	AutoRecovery  *AutoRecovery `json:"auto_recovery,omitempty"`
	UserStopped   string        `json:"user_stopped,omitempty"`  // "true" or "false", only with restart policy container
	StatusReason  string        `json:"status_reason,omitempty"` // why it is not at its goal; ours, absent while all is well
}

// GroupRecovery is the auto_recovery object of a group.
type GroupRecovery struct {
	MaxRetries    int    `json:"max_retries"`
	StableTimeout int    `json:"stable_timeout"`
	BackoffPolicy string `json:"backoff_policy"`
}

// Group is one element of GET /groups.
type Group struct {
	Name          string         `json:"name"`
	StatusGoal    string         `json:"status_goal"`
	RestartPolicy string         `json:"restart_policy"`
	Status        string         `json:"status"`
	AutoRecovery  *GroupRecovery `json:"auto_recovery,omitempty"`
}

// Daemon is one element of GET /daemons.
type Daemon struct {
	Name    string `json:"name"`
	PID     int    `json:"pid"`
	Respawn bool   `json:"respawn"`
}

// Error is an answer other than 200: a status and the text of {"Error":"..."}.
type Error struct {
	Status     int
	Text       string
	RetryAfter int // seconds, sent as Retry-After when above 0
	// Details say more than the text that existing clients know, one a line; they are
	// sent as the member "Details".
	Details []string
}

func (e *Error) Error() string { return e.Text }

// Engine is what the control socket asks of the container engine. Every method
// returns at once: long work is queued and done by the engine's own goroutine.
// Errors meant for the client are *Error; any other error is answered with 500.
type Engine interface {
	// Resolve names the caller with this process ID, or fails.
	Resolve(pid int) (Caller, error)
	Containers() ([]Container, error)
	Groups() ([]Group, error)
	Daemons() ([]Daemon, error)
	// ContainerAction takes "start", "stop" or "restart".
	ContainerAction(name, action string) error
	// DaemonAction takes "start" or "stop".
	DaemonAction(name, action string) error
	// Signal is a message of a container about itself; only "ready" is known.
	Signal(from Caller, typ, payload string) error
	// Command queues one operation of POST /commands; op is exact, for example "REBOOT_DEVICE".
	Command(op, payload string) error
}

// Meta is one of the two key-value stores of a device, user-meta or device-meta.
type Meta interface {
	// List writes the JSON object of GET /user-meta or /device-meta.
	List(w io.Writer) error
	Set(key, value string) error
	Delete(key string) error
}

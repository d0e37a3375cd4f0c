// Package api has the types of the control API (docs/control.md): the bodies of requests
// and answers, with their fields in the order on the wire, and the operations. Server
// and clients share it, so it imports neither.
package api

import (
	"encoding/json"

	"github.com/pantavisor/pantavisor/revision/state"
)

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
	UserStopped   string        `json:"user_stopped,omitempty"` // "true" or "false", only with restart policy container
	// Additions to the manual.
	StatusReason     string `json:"status_reason,omitempty"`     // why it is not at its goal
	Timeout          int    `json:"timeout,omitempty"`           // seconds to reach the goal, while they run
	TimeoutRemaining *int   `json:"timeout_remaining,omitempty"` // seconds left of them
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
	// Additions to the manual.
	Timeout          int  `json:"timeout,omitempty"`           // seconds that its last member has to reach its goal, while they run
	TimeoutRemaining *int `json:"timeout_remaining,omitempty"` // seconds left of them
}

// Daemon is one element of GET /daemons.
type Daemon struct {
	Name    string `json:"name"`
	PID     int    `json:"pid"`
	Respawn bool   `json:"respawn"`
}

// Error is an answer other than 200 as a Go error.
type Error struct {
	Status     int
	Text       string   // of [Refusal]
	RetryAfter int      // seconds, sent as Retry-After when above 0
	Details    []string // of [Refusal]
}

// Error implements error.
func (e *Error) Error() string { return e.Text }

// Refusal is the body of an answer other than 200.
type Refusal struct {
	Error string
	// Details add to the text that existing clients know, one line each.
	Details []string `json:",omitempty"`
}

// Action is the body of PUT /containers/NAME and /daemons/NAME.
type Action struct {
	Action string `json:"action"` // "start", "stop" or "restart"
}

// Command is the body of POST /commands.
type Command struct {
	Op      string `json:"op"` // one of [Ops]
	Payload string `json:"payload"`
}

// The operations of POST /commands.
const (
	OpUpdateMetadata = "UPDATE_METADATA"
	OpReboot         = "REBOOT_DEVICE"    // payload: a message for the log
	OpPowerOff       = "POWEROFF_DEVICE"  // payload: a message for the log
	OpTryOnce        = "TRY_ONCE"         // payload: a revision
	OpLocalRun       = "LOCAL_RUN"        // payload: a revision
	OpLocalRunCommit = "LOCAL_RUN_COMMIT" // payload: a revision
	OpLocalApply     = "LOCAL_APPLY"      // payload: a revision
	OpMakeFactory    = "MAKE_FACTORY"     // payload: a revision, or empty for the running one
	OpRunGC          = "RUN_GC"
	OpEnableSSH      = "ENABLE_SSH"
	OpDisableSSH     = "DISABLE_SSH"
	OpGoRemote       = "GO_REMOTE"
	OpDeferReboot    = "DEFER_REBOOT" // payload: seconds, in decimal
	OpXconnectGraph  = "XCONNECT_GRAPH"
	OpUnclaim        = "UNCLAIM"
)

// Ops are all operations that POST /commands accepts: the manual's table of commands
// and UNCLAIM.
var Ops = []string{
	OpUpdateMetadata, OpReboot, OpPowerOff, OpTryOnce, OpLocalRun, OpLocalRunCommit, OpLocalApply, OpMakeFactory,
	OpRunGC, OpEnableSSH, OpDisableSSH, OpGoRemote, OpDeferReboot, OpXconnectGraph, OpUnclaim,
}

// Signal is the body of POST /signal, with which a container reports its own status.
type Signal struct {
	Type    string `json:"type"` // "ready"
	Payload string `json:"payload"`
}

// Object is one element of GET /objects.
type Object struct {
	SHA256 string `json:"sha256"` // also its name
	Size   string `json:"size"`   // bytes, in decimal
}

// LogFile is one element of GET /logs.
type LogFile struct {
	Path string `json:"path"` // relative: REVISION/CONTAINER/SOURCE
	Size int64  `json:"size"` // bytes
}

// Step is one element of GET /steps.
type Step struct {
	Name      string          `json:"name"`
	Date      string          `json:"date"` // of the last change, RFC 3339 in UTC
	CommitMsg string          `json:"commitmsg"`
	Progress  json.RawMessage `json:"progress"` // an object, empty when there is none
}

// Setting is one element of GET /config2.
type Setting struct {
	Key      string `json:"key"`            // for example "PV_LOG_LEVEL"
	Value    string `json:"value"`          // "(null)" when unset, masked when it is a secret
	Modified string `json:"modified"`       // where it came from: "default", "env", ...
	Note     string `json:"note,omitempty"` // "no effect in this version" where that is so
}

// Driver is one element of GET /drivers, a managed driver of the asking container.
type Driver struct {
	Name   string `json:"name"`
	Type   string `json:"type"`   // "REQUIRED", "OPTIONAL" or "MANUAL"
	Status string `json:"status"` // "LOADED", "UNLOADED" or "UNKNOWN"
}

// Wakelocks is the body of GET /wakelocks.
type Wakelocks struct {
	Mode      string        `json:"mode"`
	Count     int           `json:"count"`
	Degraded  bool          `json:"degraded"` // the kernel has no wake locks
	Autosleep bool          `json:"autosleep"`
	Settling  bool          `json:"settling"`
	Polling   bool          `json:"polling"`
	RunWindow bool          `json:"run_window"`
	Held      WakelocksHeld `json:"held"`
}

// WakelocksHeld are the reasons for which the device stays awake.
type WakelocksHeld struct {
	Boot        bool `json:"boot"`
	Update      bool `json:"update"`
	UpdateCheck bool `json:"update_check"`
	Devmeta     bool `json:"devmeta"`
	Usrmeta     bool `json:"usrmeta"`
	Shutdown    bool `json:"shutdown"`
	DebugShell  bool `json:"debug_shell"`
	Poll        bool `json:"poll"`
}

// Preparing is the message of an update with status QUEUED while its files are laid out: it may
// still fail. With another one it waits.
const Preparing = "Update is being installed"

// Update is one element of GET /updates: an update that the device made or makes.
type Update struct {
	Number   int64  `json:"number"` // counts up; a revision may have several updates
	Revision string `json:"revision"`
	// Status, Message are as in the progress of the revision (manual: Updates).
	Status  string `json:"status"`
	Message string `json:"message"`
	Mode    string `json:"mode"`           // "run", "run-commit", "try-once" or "apply"
	From    string `json:"from,omitempty"` // the revision that ran before
	When    string `json:"when,omitempty"` // "reboot", "HH:MM" or "HH:MM-HH:MM" for one that waits
	// Path is how the update got to its status.
	Path []UpdateStep `json:"path"`
	// Groups are those of the revision under test, with what remains of their time.
	Groups  []Group        `json:"groups,omitempty"`
	Failure *UpdateFailure `json:"failure,omitempty"` // with status ERROR and WONTGO
}

// UpdateStep is one status of an update.
type UpdateStep struct {
	Time    string `json:"time"` // RFC 3339, by the device's clock
	Status  string `json:"status"`
	Message string `json:"message"`
}

// UpdateFailure is why an update failed.
type UpdateFailure struct {
	// Check is what failed: "state", "compatibility", "space", "object", "install", "hook", "boot loader",
	// "goal", "container", "boot" or, when it was cancelled, "user".
	Check     string `json:"check"`
	Text      string `json:"text"`
	Container string `json:"container,omitempty"`
	Group     string `json:"group,omitempty"`
	Goal      string `json:"goal,omitempty"`    // that it was to reach
	Status    string `json:"status,omitempty"`  // that it had
	Timeout   int    `json:"timeout,omitempty"` // seconds that it had for it
	Exit      string `json:"exit,omitempty"`    // how it ended, as "exited with code 1"
	Retries   int    `json:"retries,omitempty"` // how often it had been started again
	// Log are the last lines that it wrote.
	Log []string `json:"log,omitempty"`
}

// UpdateRequest is the body of POST /updates.
type UpdateRequest struct {
	Revision string `json:"revision"`
	Mode     string `json:"mode,omitempty"` // as in [Update]; empty is "run"
	When     string `json:"when,omitempty"` // as in [Update]; empty is now
}

// UpdateCheck is the body of POST /updates/check and GET /updates/check/REVISION: what an
// update would do.
type UpdateCheck struct {
	Revision string `json:"revision,omitempty"` // absent for a state that is not stored
	From     string `json:"from"`               // the running revision
	Possible bool   `json:"possible"`           // there are no blockers
	// Difference has the parts that change, the bytes of objects that the running revision
	// lacks, and the objects that the device does not have.
	state.Difference
	// Restart says that the device must restart: because of these keys of the state.
	Restart     bool     `json:"restart"`
	RestartKeys []string `json:"restart_keys"`
	// Containers are those that are stopped, started or replaced, sorted.
	Containers []string `json:"containers"`
	// Space is what the update needs at its peak, beside what is used now.
	Space    []SpaceNeed     `json:"space"`
	Blockers []UpdateBlocker `json:"blockers"` // why the update would not go
	// Unknown are the declarations that nobody can judge, as text; they do not stop the update.
	Unknown []string `json:"unknown,omitempty"`
}

// SpaceNeed is what an update needs of one partition, in bytes.
type SpaceNeed struct {
	Partition string `json:"partition"` // "storage", or one of the boot loader's
	Required  int64  `json:"required"`
	Available int64  `json:"available"`
}

// UpdateBlocker is a reason for which an update would not go.
type UpdateBlocker struct {
	// Check is what would fail: "state", "signature", "driver", "compatibility", "object",
	// "space" or "boot loader".
	Check string `json:"check"`
	Text  string `json:"text"`
}

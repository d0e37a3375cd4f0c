package updater

import (
	"slices"

	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/step"
)

// Status is how far an update is (manual: Updates, progress).
type Status string

// The statuses. A revision that was stored and never run is NEW (package step). SYNCING and CANCELED of the cloud are not among those that a device sets
// for a remote update; a local update that was cancelled is CANCELED too.
const (
	neverRun    Status = "NEW"
	Queued      Status = "QUEUED"
	Downloading Status = "DOWNLOADING"
	InProgress  Status = "INPROGRESS"
	Testing     Status = "TESTING"
	Updated     Status = "UPDATED"
	Done        Status = "DONE"
	WontGo      Status = "WONTGO"
	Error       Status = "ERROR"
	Canceled    Status = "CANCELED"
)

// Final reports whether an update with this status has ended.
func (s Status) Final() bool {
	return slices.Contains([]Status{Updated, Done, WontGo, Error, Canceled}, s)
}

// Failed reports whether it has ended without the revision running.
func (s Status) Failed() bool { return s == WontGo || s == Error }

// percent is the number in "progress" (manual: Updates, progress).
func (s Status) percent() int {
	switch s {
	case neverRun:
		return 0
	case Queued:
		return 5
	case Downloading:
		return 25
	case InProgress:
		return 50
	case Testing:
		return 75
	}
	return 100
}

func (s Status) progress(message string) step.Progress {
	return step.Progress{Status: string(s), Message: message, Percent: s.percent()}
}

// Messages of the manual, which clients compare.
const (
	msgPreparing    = api.Preparing
	msgQueuedReboot = "Update installed, waiting for a reboot"
	msgQueuedTime   = "Update ready, waiting for its time"
	msgInstalling   = "Update objects downloaded"
	msgApplied      = "Update applied"
	msgSwapping     = "Transitioning to new revision without rebooting"
	msgRebooting    = "Rebooting"
	msgTrying       = "Trying new revision"
	msgAwaitCommit  = "Awaiting to set rollback point if update is stable"
	msgAwaitStable  = "Awaiting to see if update is stable"
	msgAwaitAll     = "Waiting for all containers to become stable"
	msgUpdated      = "Update finished, revision not set as rollback point"
	msgDone         = "Update finished, revision set as rollback point"
	msgFactory      = "Factory revision"
	msgAborted      = "Update aborted"
	msgNoState      = "State JSON not found"
	msgBadState     = "State JSON has bad format"
	msgInternal     = "Internal error"
	msgBadObject    = "Object validation went wrong"
	msgGoal         = "Status goal not reached"
	msgContainer    = "A container could not be started"
	msgUnexpected   = "Unexpected rollback"
)

// Mode is how an update is to end.
type Mode string

// The modes.
const (
	// Run restarts the device only when what changed needs it (LOCAL_RUN).
	Run Mode = "run"
	// RunCommit always restarts, so that it ends with a commit (LOCAL_RUN_COMMIT).
	RunCommit Mode = "run-commit"
	// TryOnce never commits: the next restart goes back (TRY_ONCE).
	TryOnce Mode = "try-once"
	// Apply never restarts the device (LOCAL_APPLY).
	Apply Mode = "apply"
)

// modes are all modes.
var modes = []Mode{Run, RunCommit, TryOnce, Apply}

func known(m Mode) bool { return slices.Contains(modes, m) }

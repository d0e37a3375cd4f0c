package engine

import (
	"cmp"

	"github.com/pantavisor/pantavisor/revision/manifest"
)

// status is a container's status. The status of a group is the lowest of its members'.
type status int

const (
	installed status = iota + 1
	mounted
	blocked
	starting
	started
	ready
	recovering
	stopping
	stopped
)

var statusNames = [...]string{"NONE", "INSTALLED", "MOUNTED", "BLOCKED", "STARTING", "STARTED", "READY",
	"RECOVERING", "STOPPING", "STOPPED"}

// String returns the name in the control API.
func (s status) String() string { return statusNames[s] }

var goalStatus = map[manifest.Goal]status{manifest.Mounted: mounted, manifest.Started: started, manifest.Ready: ready}

// atGoal reports whether a container in status s is at its goal.
func atGoal(s, goal status) bool {
	if s == blocked || s == starting {
		return false
	}
	return s >= goal && s <= ready
}

// lowest returns the status of a group or revision: READY when all members are at their
// goals, else the lowest status of those that are not. A container that has ended for good
// after it reached its goal does not count (manual: Containers, status).
func lowest(units []*unit) status {
	low := status(0)
	for _, u := range units {
		done := atGoal(u.status, u.goal) || u.status == stopped && u.reached
		if !done && (low == 0 || u.status < low) {
			low = u.status
		}
	}
	return cmp.Or(low, ready)
}

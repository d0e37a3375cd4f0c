package engine

import "github.com/pantavisor/pantavisor/revision/manifest"

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

// lowest returns the status of a group: the lowest of those members that are not at
// their goal, else READY. Containers that have ended do not count: their group was
// complete once or will not be (manual: Containers, status).
func lowest(units []*unit) status {
	low := ready
	for _, u := range units {
		if !atGoal(u.status, u.goal) && u.status < low {
			low = u.status
		}
	}
	return low
}

package emulator

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
)

// Failure is a container that ended, was started again, or lost its goal before it had been
// stable.
type Failure struct {
	Container string   `json:"container"`
	Reason    string   `json:"reason"`
	LastLines []string `json:"last_lines,omitempty"` // of its log
}

// gate judges a device by its containers. A container passes once it has been at its goal
// for the time settle without a break, and for the stable_timeout of its recovery policy.
// One that ends or is started again before that fails.
type gate struct {
	least  int // the number of containers that must pass
	settle time.Duration

	since    map[string]time.Time // when a container was first seen at its goal
	passed   map[string]bool
	reasons  map[string]string // the last reason that the device gave
	failures []Failure
}

func newGate(least int, settle time.Duration) *gate {
	return &gate{least: least, settle: settle, since: map[string]time.Time{}, passed: map[string]bool{}, reasons: map[string]string{}}
}

// look takes what the device says at a time, and reports whether the result is known: all
// containers have passed, or some have failed.
func (g *gate) look(cs []api.Container, now time.Time) (over bool) {
	g.failures = nil
	all := len(cs) >= g.least
	for _, c := range cs {
		if c.StatusReason != "" {
			g.reasons[c.Name] = c.StatusReason
		}
		if why := g.fault(c); why != "" {
			g.failures = append(g.failures, Failure{Container: c.Name, Reason: why})
			continue
		}
		all = g.passes(c, now) && all
	}
	return all || len(g.failures) > 0
}

// fault says why a container has failed, "" while it has not.
func (g *gate) fault(c api.Container) string {
	because := ""
	if r := g.reasons[c.Name]; r != "" {
		because = ": " + r
	}
	_, was := g.since[c.Name]
	switch {
	case g.passed[c.Name] && c.Status != "STOPPED":
		return "" // what comes later is up to its recovery policy
	case c.Status == "STOPPED":
		return "it is STOPPED instead of " + c.StatusGoal + because
	case c.Status == "RECOVERING":
		return "it is RECOVERING instead of " + c.StatusGoal + because
	case c.AutoRecovery != nil && c.AutoRecovery.CurrentRetries > 0:
		return fmt.Sprintf("it was started again, %d of %d times%s", c.AutoRecovery.CurrentRetries, c.AutoRecovery.MaxRetries, because)
	case was && !Reached(c):
		return "it was at its goal " + c.StatusGoal + " and is " + c.Status + " now" + because
	}
	return ""
}

// passes notes a container that is at its goal, and reports whether it has been long enough.
func (g *gate) passes(c api.Container, now time.Time) bool {
	if !Reached(c) {
		return false
	}
	if _, ok := g.since[c.Name]; !ok {
		g.since[c.Name] = now
	}
	stable := c.AutoRecovery == nil || c.AutoRecovery.StableTimeout == 0 || c.AutoRecovery.IsStable == "true"
	if stable && now.Sub(g.since[c.Name]) >= g.settle {
		g.passed[c.Name] = true
	}
	return g.passed[c.Name]
}

// endedLine is how the engine's log says that a container has ended.
var endedLine = regexp.MustCompile(`container (\S+) is now (STOPPED|RECOVERING)(?:: ([^\n]*))?`)

// failuresIn finds the containers that ended by the engine's log.
func failuresIn(log string) (list []Failure) {
	for _, m := range endedLine.FindAllStringSubmatch(log, -1) {
		f := Failure{Container: m[1], Reason: strings.TrimSuffix("it is "+m[2]+": "+strings.TrimSpace(m[3]), ": ")}
		if !slices.ContainsFunc(list, func(o Failure) bool { return o.Container == f.Container }) {
			list = append(list, f)
		}
	}
	slices.SortFunc(list, func(a, b Failure) int { return cmp.Compare(a.Container, b.Container) })
	return list
}

// failed is the error of containers that have failed.
type failed []Failure

// Error names each container with its reason and its last lines.
func (f failed) Error() string {
	var b strings.Builder
	for i, one := range f {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "container %s: %s", one.Container, one.Reason)
	}
	for _, one := range f {
		if len(one.LastLines) > 0 {
			fmt.Fprintf(&b, "\nlast lines of the log of %s:\n%s", one.Container, strings.Join(one.LastLines, "\n"))
		}
	}
	return b.String()
}

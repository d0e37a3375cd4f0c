package emulator

import (
	"strings"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
)

// now makes a container with a status; opts are "goal=READY", "reason=...", and for one
// with a recovery policy "retries=N" and "stable".
func now(name, status string, opts ...string) api.Container {
	c := api.Container{Name: name, Status: status, StatusGoal: "STARTED"}
	for _, o := range opts {
		key, value, _ := strings.Cut(o, "=")
		if c.AutoRecovery == nil && (key == "retries" || key == "stable") {
			c.AutoRecovery = &api.AutoRecovery{MaxRetries: 5, StableTimeout: 30, IsStable: "false"}
		}
		switch key {
		case "goal":
			c.StatusGoal = value
		case "reason":
			c.StatusReason = value
		case "retries":
			c.AutoRecovery.CurrentRetries = len(value)
		case "stable":
			c.AutoRecovery.IsStable = "true"
		}
	}
	return c
}

// TestGate shows each case one look a second to a gate with a settle time of 3 seconds.
// want is the look at which it decides, from 1, and the text of the failure.
func TestGate(t *testing.T) {
	t.Parallel()
	up := now("a", "STARTED")
	for name, c := range map[string]struct {
		looks [][]api.Container
		at    int
		want  string
	}{
		"stable":             {[][]api.Container{{up}, {up}, {up}, {up}}, 4, ""},
		"none yet":           {[][]api.Container{{}, {}, {up}, {up}, {up}, {up}}, 6, ""},
		"a late second":      {[][]api.Container{{up, now("b", "BLOCKED")}, {up, now("b", "STARTED")}, {up, now("b", "STARTED")}, {up, now("b", "STARTED")}, {up, now("b", "STARTED")}}, 5, ""},
		"mounted only":       {[][]api.Container{{now("a", "MOUNTED", "goal=MOUNTED")}, {}, {}, {now("a", "MOUNTED", "goal=MOUNTED")}}, 4, ""},
		"ended at once":      {[][]api.Container{{now("a", "STOPPED", "reason=exited with code 1")}}, 1, "container a: it is STOPPED instead of STARTED: exited with code 1"},
		"ended while stable": {[][]api.Container{{up}, {up}, {now("a", "STOPPED")}}, 3, "container a: it is STOPPED instead of STARTED"},
		"ended beside a stable one": {[][]api.Container{{up}, {up}, {up, now("b", "STARTED")}, {up, now("b", "STOPPED", "reason=killed by signal 11")}}, 4,
			"container b: it is STOPPED instead of STARTED: killed by signal 11"},
		"recovering": {[][]api.Container{{now("a", "STARTED", "retries=")}, {now("a", "RECOVERING", "retries=1", "reason=exited with code 3")}}, 2,
			"container a: it is RECOVERING instead of STARTED: exited with code 3"},
		"restart between two looks":     {[][]api.Container{{now("a", "STARTED", "retries=")}, {now("a", "STARTED", "retries=1")}}, 2, "container a: it was started again, 1 of 5 times"},
		"the device boots again":        {[][]api.Container{{up}, {}, {now("a", "INSTALLED")}}, 3, "container a: it was at its goal STARTED and is INSTALLED now"},
		"stable_timeout not over":       {[][]api.Container{{now("a", "STARTED", "retries=")}, {now("a", "STARTED", "retries=")}, {now("a", "STARTED", "retries=")}, {now("a", "STARTED", "retries=")}}, 0, ""},
		"stable_timeout over":           {[][]api.Container{{now("a", "STARTED", "retries=", "stable")}, {}, {}, {now("a", "STARTED", "retries=", "stable")}}, 4, ""},
		"restart later is the policy's": {[][]api.Container{{now("a", "STARTED", "retries=", "stable"), now("b", "BLOCKED")}, {}, {}, {now("a", "STARTED", "retries=", "stable"), now("b", "BLOCKED")}, {now("a", "RECOVERING", "retries=1"), now("b", "BLOCKED")}}, 0, ""},
		"two at once": {[][]api.Container{{now("a", "STOPPED"), now("b", "RECOVERING", "retries=1")}}, 1,
			"container a: it is STOPPED instead of STARTED; container b: it is RECOVERING instead of STARTED"},
	} {
		g, at := newGate(1, 3*time.Second), 0
		for i, look := range c.looks {
			if g.look(look, time.Unix(int64(i), 0)) {
				at = i + 1
				break
			}
		}
		got := ""
		if len(g.failures) > 0 {
			got = failed(g.failures).Error()
		}
		if at != c.at || got != c.want {
			t.Errorf("%s: decided at look %d with %q, want %d with %q", name, at, got, c.at, c.want)
		}
	}
}

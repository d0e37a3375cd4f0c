package client

import (
	"context"
	"fmt"
	"strings"

	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
)

// CheckState returns what an update to a state would do.
func (c *Client) CheckState(ctx context.Context, doc []byte) (*api.UpdateCheck, error) {
	var u api.UpdateCheck
	return &u, c.decode(ctx, WithBody("POST", "/updates/check", string(doc)), &u)
}

// CheckStored returns what an update to a stored revision would do.
func (c *Client) CheckStored(ctx context.Context, rev string) (*api.UpdateCheck, error) {
	var u api.UpdateCheck
	return &u, c.Fetch(ctx, "/updates/check/"+rev, &u)
}

// Transition returns lines for people: the restart or the containers that are replaced, and
// the space that is needed.
func Transition(u *api.UpdateCheck) (lines []string) {
	switch {
	case u.Restart && len(u.RestartKeys) > 0:
		lines = append(lines, "restart  because of "+strings.Join(u.RestartKeys, ", "))
	case u.Restart:
		lines = append(lines, "restart  of the device")
	case len(u.Containers) > 0:
		lines = append(lines, "replaced without a restart: "+strings.Join(u.Containers, ", "))
	}
	for _, n := range u.Space {
		lines = append(lines, fmt.Sprintf("space    %s: required %d B, available %d B", n.Partition, n.Required, n.Available))
	}
	for _, text := range u.Unknown {
		lines = append(lines, "unknown  "+text)
	}
	return lines
}

// Difference returns lines for people: what differs from the running revision.
func Difference(d state.Difference) (lines []string) {
	for _, p := range d.Parts {
		lines = append(lines, fmt.Sprintf("%-8s %s: files %d, new bytes %d", p.Change, p.Part, p.Files, p.Bytes))
	}
	for _, sum := range d.Missing {
		lines = append(lines, "missing  object "+sum)
	}
	return append(lines, fmt.Sprintf("new bytes in all: %d", d.Bytes))
}

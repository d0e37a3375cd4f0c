package device

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/logs"
)

// maxDetails is the largest number of details in the answer to a bad state.
const maxDetails = 50

// stateCheck decides whether a state may be stored as a revision.
type stateCheck struct {
	cfg     *config.Config
	objects string // the directory of the object store
	space   *admission
	log     logs.Logger
}

// check checks a state that a client wants to store: it must be a valid state, the
// device must have its objects, which clients send first, and space for its files.
func (c *stateCheck) check(rev string, doc []byte) error {
	st, err := state.Parse(doc)
	if err == nil {
		if bad := (*untrusted)(nil); errors.As(verify(c.cfg, st, c.log), &bad) {
			c.log.Warnf("refusing step %s: %v", rev, bad)
			return &api.Error{Status: 422, Text: "Secureboot: " + bad.Outcome(), Details: []string{bad.Error()}}
		}
		_, err = manifest.Parse(st, manifestOptions(c.cfg))
	}
	if err != nil {
		_, message := manifest.Outcome(err)
		c.log.Warnf("refusing step %s: %v", rev, err)
		return &api.Error{Status: 422, Text: "Parser: " + message, Details: details(err)}
	}
	store, err := objects.Open(c.objects)
	if err != nil {
		return err
	}
	missing := store.Missing(st)
	if len(missing) == 0 {
		return c.space.answer(st)
	}
	e := &api.Error{Status: 422, Text: fmt.Sprintf("Storage: %d objects of the state are missing", len(missing))}
	for _, sum := range missing[:min(len(missing), maxDetails)] {
		e.Details = append(e.Details, "object "+sum+" is missing")
	}
	c.log.Warnf("refusing step %s: %s: %s", rev, e.Text, strings.Join(e.Details, ", "))
	return e
}

// details returns the violations in an error about a state, one each.
func details(err error) []string {
	var ps manifest.Problems
	if !errors.As(err, &ps) {
		return []string{err.Error()}
	}
	var out []string
	for _, p := range ps[:min(len(ps), maxDetails)] {
		out = append(out, p.Error())
	}
	return out
}

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

// maxDetails bounds what an answer says of a bad state.
const maxDetails = 50

// judge decides whether a state may be stored as a revision.
type judge struct {
	cfg     *config.Config
	objects string // the directory of the object store
	log     logs.Logger
}

// check judges a state that somebody wants to store: it must be one, and the
// device must have its objects. Clients send the objects first, and a step that
// cannot run is of no use to anybody.
func (j *judge) check(rev string, doc []byte) error {
	st, err := state.Parse(doc)
	if err == nil {
		_, err = manifest.Parse(st, manifestOptions(j.cfg))
	}
	if err != nil {
		_, message := manifest.Outcome(err)
		j.log.Warnf("refusing step %s: %v", rev, err)
		return &api.Error{Status: 422, Text: "Parser: " + message, Details: details(err)}
	}
	store, err := objects.Open(j.objects)
	if err != nil {
		return err
	}
	missing := store.Missing(st)
	if len(missing) == 0 {
		return nil
	}
	e := &api.Error{Status: 422, Text: fmt.Sprintf("Storage: %d objects of the state are missing", len(missing))}
	for _, sum := range missing[:min(len(missing), maxDetails)] {
		e.Details = append(e.Details, "object "+sum+" is missing")
	}
	j.log.Warnf("refusing step %s: %s: %s", rev, e.Text, strings.Join(e.Details, ", "))
	return e
}

// details are the violations in an error about a state.
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

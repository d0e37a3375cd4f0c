package engine

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/boot"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/step"
)

// maxDetails bounds what an answer says of a bad state.
const maxDetails = 50

// checkStep judges a state that somebody wants to store: it must be one, and the
// device must have its objects. Clients send the objects first, and a step that
// cannot run is of no use to anybody.
func (s *session) checkStep(rev string, doc []byte) error {
	st, err := state.Parse(doc)
	if err == nil {
		_, err = manifest.Parse(st, s.manifestOptions())
	}
	if err != nil {
		_, message := manifest.Outcome(err)
		s.log.Warnf("refusing step %s: %v", rev, err)
		return &api.Error{Status: 422, Text: "Parser: " + message, Details: details(err)}
	}
	store, err := objects.Open(s.paths.objects)
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
	s.log.Warnf("refusing step %s: %s: %s", rev, e.Text, strings.Join(e.Details, ", "))
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

// factoryDone is what a factory revision that runs has to tell.
var factoryDone = step.Progress{Status: "DONE", Message: "Factory revision", Percent: 100}

// factory marks the factory revision as done when its state could be loaded. A device
// that comes from the factory has nobody else who would.
func (s *session) factory() error {
	if s.opt.Revision != boot.Factory {
		return nil
	}
	if err := s.steps.MarkDone(boot.Factory, factoryDone); err != nil {
		return fmt.Errorf("marking the factory revision as done: %w", err)
	}
	return nil
}

package engine

import (
	"context"
	"fmt"

	"github.com/pantavisor/pantavisor/runtime/boot"
	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/step"
)

var (
	errLocal        = &api.Error{Status: 409, Text: "Cannot do this operation while on local mode"}
	errClaimed      = &api.Error{Status: 409, Text: "Cannot do this operation if device is already claimed"}
	errRemoteOff    = &api.Error{Status: 409, Text: "Cannot do this operation when remote mode is disabled by config"}
	errNoDebugShell = &api.Error{Status: 409, Text: "Cannot do this operation when debug shell is not active"}
	// errUnclaimed has no body on the wire: it says that there is nothing to do.
	errUnclaimed = &api.Error{Status: 204, Text: "Device is already unclaimed"}
)

// order does the operations of POST /commands that are not about containers; the
// engine calls it, so it returns at once. What this version lacks is refused rather
// than taken and forgotten.
func (s *session) order(op, _ string) error {
	switch op {
	case "RUN_GC":
		return s.orderGC()
	case "UPDATE_METADATA":
		return errLocal // there is no hub to tell
	case "GO_REMOTE":
		if !s.cfg.Bool(config.ControlRemote) {
			return errRemoteOff
		}
	case "MAKE_FACTORY":
		if s.claimed() {
			return errClaimed
		}
	case "UNCLAIM":
		if !s.claimed() {
			return errUnclaimed
		}
	case "DEFER_REBOOT":
		return errNoDebugShell
	}
	return notAvailable(op)
}

// claimed tells whether the device belongs to somebody at a hub.
func (s *session) claimed() bool { return s.cfg.String(config.CredsPRN) != "" }

// orderGC collects garbage in the background, one collection at a time.
func (s *session) orderGC() error {
	if !s.collecting.TryLock() {
		return errBusy
	}
	s.background("collecting garbage", func() error {
		defer s.collecting.Unlock()
		freed, err := s.collect(s.serving)
		if err == nil {
			s.log.Infof("collecting garbage freed %d bytes", freed)
		}
		return err
	})
	return nil
}

// collectGarbage serves POST /storage/gc.
func (s *session) collectGarbage(ctx context.Context) (int64, error) {
	if !s.collecting.TryLock() {
		return 0, errBusy
	}
	defer s.collecting.Unlock()
	return s.collect(ctx)
}

// collect collects garbage and returns the bytes that it freed.
func (s *session) collect(ctx context.Context) (int64, error) {
	keep, err := s.kept()
	if err != nil {
		return 0, fmt.Errorf("collecting garbage: %w", err)
	}
	g := &step.Garbage{Steps: s.steps, Objects: s.paths.objects, Keep: keep, Beside: s.paths.beside}
	return g.Collect(ctx)
}

// kept lists the revisions to keep: the running one, those that the boot loader may
// boot, and the factory's when it is configured so.
func (s *session) kept() ([]string, error) {
	store, err := boot.Open(s.cfg.Enum(config.BootloaderType), s.paths.storage)
	if err != nil {
		return nil, err
	}
	values, err := store.Load()
	if err != nil {
		return nil, err
	}
	keep := []string{s.opt.Revision, values.Rev, values.Try, s.steps.Running()}
	if s.cfg.Bool(config.StorageGCKeepFactory) {
		keep = append(keep, boot.Factory)
	}
	return keep, nil
}

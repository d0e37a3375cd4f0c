package device

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/boot"
	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/engine"
	"github.com/pantavisor/pantavisor/runtime/handoff"
	"github.com/pantavisor/pantavisor/runtime/logs"
	"github.com/pantavisor/pantavisor/runtime/step"
	"github.com/pantavisor/pantavisor/runtime/updater"
)

var (
	errLocal        = &api.Error{Status: 409, Text: "Cannot do this operation while on local mode"}
	errClaimed      = &api.Error{Status: 409, Text: "Cannot do this operation if device is already claimed"}
	errRemoteOff    = &api.Error{Status: 409, Text: "Cannot do this operation when remote mode is disabled by config"}
	errNoDebugShell = &api.Error{Status: 409, Text: "Cannot do this operation when debug shell is not active"}
	// These are answered without a body: there is nothing to do.
	errUnclaimed = &api.Error{Status: 204, Text: "Device is already unclaimed"}
	errRemote    = &api.Error{Status: 204, Text: "Device is already in remote mode"}
)

// commands are the operations of POST /commands.
type commands struct {
	ctx     context.Context
	cfg     *config.Config
	engine  *engine.Engine
	updates *updater.Updater
	power   *power
	factory func(rev string) error
	save    func(key, value string) error // device metadata
	collect func() error                  // starts a garbage collection
	log     logs.Logger
	remote  atomic.Bool // GO_REMOTE was accepted
}

// modes are the operations that begin an update.
var modes = map[string]updater.Mode{
	api.OpLocalRun: updater.Run, api.OpLocalRunCommit: updater.RunCommit, api.OpTryOnce: updater.TryOnce, api.OpLocalApply: updater.Apply,
}

// exclusive are the operations that must wait until an update has ended, besides those that
// begin one.
var exclusive = []string{api.OpReboot, api.OpPowerOff, api.OpMakeFactory, api.OpUnclaim}

// Command implements ctrl.Engine.
func (c *commands) Command(op, payload string) error {
	if err := c.engine.Stopping(); err != nil {
		return err
	}
	for _, e := range exclusive {
		if e == op {
			if err := c.updates.Ongoing(); err != nil {
				return err
			}
		}
	}
	if mode, ok := modes[op]; ok {
		return c.updates.Start(c.ctx, updater.Request{Revision: payload, Mode: mode})
	}
	switch op {
	case api.OpReboot:
		return c.down("a reboot", payload, handoff.ExitReboot)
	case api.OpPowerOff:
		return c.down("a power-off", payload, handoff.ExitPowerOff)
	}
	return c.order(op, payload)
}

// down takes the device down when nobody works in the debug shell any more.
func (c *commands) down(what, message string, code int) error {
	if message != "" {
		c.log.Infof("%s was asked for: %.256q", what, message)
	}
	if c.power.waiting.Load() {
		return engine.ErrBusy
	}
	if c.power.open() {
		go func() { _ = c.power.down(code, byCommand) }() // it may be stopping already then
		return nil
	}
	return c.engine.Stop(code, byCommand)
}

// byCommand is why the device goes down that a client took down.
const byCommand = "a command"

// order does the operations that do not concern the engine. Operations that this version
// lacks are refused, not accepted and ignored.
func (c *commands) order(op, payload string) error {
	switch op {
	case api.OpRunGC:
		return c.collect()
	case api.OpUpdateMetadata:
		return c.updateMetadata(payload)
	case api.OpGoRemote:
		return c.goRemote()
	case api.OpMakeFactory:
		if claimed(c.cfg) {
			return errClaimed
		}
		return c.factory(payload)
	case api.OpUnclaim:
		if !claimed(c.cfg) {
			return errUnclaimed
		}
	case api.OpDeferReboot:
		return c.deferReboot(payload)
	}
	return notAvailable(op)
}

// isRemote reports whether a device talks to its hub: it is allowed to, and runs a revision
// that came from there (manual: Control, remote).
func isRemote(c *config.Config, rev string) bool {
	return c.Bool(config.ControlRemote) && (c.Bool(config.ControlRemoteAlways) || !strings.HasPrefix(rev, step.Locals+"/"))
}

// goRemote lets a device that runs a local revision talk to its hub until the next boot.
func (c *commands) goRemote() error {
	if !c.cfg.Bool(config.ControlRemote) {
		return errRemoteOff
	}
	if c.remote.Swap(true) {
		return errRemote
	}
	c.log.Infof("remote mode is on until the next boot")
	return nil
}

// updateMetadata stores the first pair of a JSON object as device metadata, which goes to
// the hub.
func (c *commands) updateMetadata(payload string) error {
	if !c.remote.Load() {
		return errLocal
	}
	var pair map[string]string
	if err := json.Unmarshal([]byte(payload), &pair); err != nil || len(pair) != 1 {
		return &api.Error{Status: 400, Text: "Command has bad format: the payload is an object with one key and a text"}
	}
	for key, value := range pair {
		if err := c.save(key, value); err != nil {
			return err
		}
	}
	return nil
}

// deferReboot puts off a restart that waits for the debug shell.
func (c *commands) deferReboot(payload string) error {
	if !c.power.open() {
		return errNoDebugShell
	}
	seconds, err := strconv.ParseUint(payload, 10, 31)
	if err != nil {
		return &api.Error{Status: 400, Text: fmt.Sprintf("Command has bad format: %q is not a number of seconds", payload)}
	}
	if !c.power.later(time.Duration(seconds) * time.Second) {
		return errNoDebugShell
	}
	return nil
}

// makeFactory makes a revision the factory's and runs that. It must have been committed: a
// device falls back to the factory revision, which must therefore be known to run.
func (s *session) makeFactory(rev string) error {
	rev = cmp.Or(rev, s.revision())
	switch {
	case !s.steps.Has(rev):
		return &api.Error{Status: 404, Text: "Resource does not exist"}
	case !s.steps.Done(rev):
		return &api.Error{Status: 409, Text: "Cannot do this operation with revision " + rev + ": it has not been committed (DONE)"}
	}
	if rev != boot.Factory {
		if err := s.replaceFactory(rev); err != nil {
			return err
		}
	}
	return s.updater.Start(s.services.ctx, updater.Request{Revision: boot.Factory, Mode: updater.Run})
}

// replaceFactory gives revision 0 the state of another one.
func (s *session) replaceFactory(rev string) error {
	doc, err := s.steps.State(rev)
	if err != nil {
		return err
	}
	if _, err := state.Parse(doc); err != nil {
		return err
	}
	err = s.steps.Replace(boot.Factory, doc, s.stepInUse)
	if errors.Is(err, step.ErrInUse) {
		return &api.Error{Status: 409, Text: "Cannot do this operation while revision 0 is in use: run and commit " + rev + " first"}
	}
	if err != nil {
		return fmt.Errorf("making revision %s the factory's: %w", rev, err)
	}
	return nil
}

// claimed reports whether the device has an owner at a hub.
func claimed(c *config.Config) bool { return c.String(config.CredsPRN) != "" }

// notAvailable is the error of an operation of the control API that this version lacks.
func notAvailable(op string) error {
	return &api.Error{Status: 501, Text: fmt.Sprintf("%s is not available in this version", op)}
}

// updateList implements ctrl.Updates.
type updateList struct {
	*updater.Updater
	checks
	groups func() ([]api.Group, error)
}

// checks are the dry runs.
type checks interface {
	CheckStored(rev string) (api.UpdateCheck, error)
	CheckState(doc []byte) (api.UpdateCheck, error)
}

// List implements ctrl.Updates.
func (l updateList) List() []api.Update {
	list := l.Updates()
	if n := len(list); n > 0 && l.Ongoing() != nil {
		list[n-1].Groups, _ = l.groups()
	}
	return list
}

// Start implements ctrl.Updates.
func (l updateList) Start(ctx context.Context, r api.UpdateRequest) error {
	mode := cmp.Or(updater.Mode(r.Mode), updater.Run)
	return l.Updater.Start(ctx, updater.Request{Revision: r.Revision, Mode: mode, When: r.When})
}

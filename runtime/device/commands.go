package device

import (
	"fmt"

	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/engine"
	"github.com/pantavisor/pantavisor/runtime/handoff"
	"github.com/pantavisor/pantavisor/runtime/logs"
)

var (
	errLocal        = &api.Error{Status: 409, Text: "Cannot do this operation while on local mode"}
	errClaimed      = &api.Error{Status: 409, Text: "Cannot do this operation if device is already claimed"}
	errRemoteOff    = &api.Error{Status: 409, Text: "Cannot do this operation when remote mode is disabled by config"}
	errNoDebugShell = &api.Error{Status: 409, Text: "Cannot do this operation when debug shell is not active"}
	// errUnclaimed is answered without a body: there is nothing to do.
	errUnclaimed = &api.Error{Status: 204, Text: "Device is already unclaimed"}
)

// commands are the operations of POST /commands.
type commands struct {
	cfg     *config.Config
	engine  *engine.Engine
	collect func() error // starts a garbage collection
	log     logs.Logger
}

// Command implements ctrl.Engine.
func (c *commands) Command(op, payload string) error {
	if err := c.engine.Stopping(); err != nil {
		return err
	}
	switch op {
	case api.OpReboot:
		c.logReason("a reboot", payload)
		return c.engine.Stop(handoff.ExitReboot)
	case api.OpPowerOff:
		c.logReason("a power-off", payload)
		return c.engine.Stop(handoff.ExitPowerOff)
	}
	return c.order(op)
}

// logReason logs the message that came with a command.
func (c *commands) logReason(what, message string) {
	if message != "" {
		c.log.Infof("%s was asked for: %.256q", what, message)
	}
}

// order does the operations that do not concern the engine. Operations that this version
// lacks are refused, not accepted and ignored.
func (c *commands) order(op string) error {
	switch op {
	case api.OpRunGC:
		return c.collect()
	case api.OpUpdateMetadata:
		return errLocal // there is no hub to send metadata to
	case api.OpGoRemote:
		if !c.cfg.Bool(config.ControlRemote) {
			return errRemoteOff
		}
	case api.OpMakeFactory:
		if claimed(c.cfg) {
			return errClaimed
		}
	case api.OpUnclaim:
		if !claimed(c.cfg) {
			return errUnclaimed
		}
	case api.OpDeferReboot:
		return errNoDebugShell
	}
	return notAvailable(op)
}

// claimed reports whether the device has an owner at a hub.
func claimed(c *config.Config) bool { return c.String(config.CredsPRN) != "" }

// notAvailable is the error of an operation of the control API that this version lacks.
func notAvailable(op string) error {
	return &api.Error{Status: 501, Text: fmt.Sprintf("%s is not available in this version", op)}
}

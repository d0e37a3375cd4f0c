package pvtx

import (
	"context"
	"fmt"

	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/ctrl/client"
)

// Run makes the device go to a revision. A device that is updating is a [client.Refused]
// with a RetryAfter.
func (t *Transaction) Run(ctx context.Context, rev string) error {
	if t.opt.Device == nil {
		return errNoDevice
	}
	req, err := client.WithJSON("POST", "/commands", api.Command{Op: api.OpLocalRun, Payload: rev})
	if err != nil {
		return err
	}
	if err := t.opt.Device.Send(ctx, req); err != nil {
		return fmt.Errorf("running revision %s: %w", rev, err)
	}
	return nil
}

// RunToEnd is [Transaction.Run] that lets an update in progress end first, and returns how
// the new one ended, see [client.Client.Update].
func (t *Transaction) RunToEnd(ctx context.Context, rev string, w client.Watch) (*api.Update, error) {
	if t.opt.Device == nil {
		return nil, errNoDevice
	}
	return t.opt.Device.Update(ctx, rev, func() error { return t.Run(ctx, rev) }, w)
}

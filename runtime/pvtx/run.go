package pvtx

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/ctrl/client"
	"github.com/pantavisor/pantavisor/runtime/step"
)

// How long a device that asks for patience gets it: shortly, while others store revisions,
// or as long as an update takes.
const (
	shortly  = 5 * time.Second
	forever  = time.Duration(1<<63 - 1)
	attempts = 10 // for what is over shortly
)

// pause bounds the time between two attempts. The device's own word is about when to come
// back from far away; an answer costs it nothing.
const pause = 2 * time.Second

// patient repeats fn while the device answers that it may succeed within the longest time.
func patient(ctx context.Context, longest time.Duration, fn func() error) error {
	for n := 1; ; n++ {
		err := fn()
		var later *client.Refused
		if !errors.As(err, &later) || later.RetryAfter == 0 || later.RetryAfter > longest || longest == shortly && n == attempts {
			return err
		}
		if err := sleep(ctx, min(later.RetryAfter, pause)); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Outcome is what became of a revision that was run.
type Outcome struct {
	Revision string        `json:"revision"`
	Progress step.Progress `json:"progress"`
}

// ends are the last statuses of an update (manual: Updates, status).
var ends = []string{"DONE", "UPDATED", "ERROR", "WONTGO", "CANCELED"}

// Good reports whether the revision runs.
func (o Outcome) Good() bool { return slices.Contains(ends[:2], o.Progress.Status) }

// Run makes the device go to a revision. With wait it lets an update in progress end first,
// follows the new one to its end and returns its outcome; without, a device that is
// updating is a [client.Refused] with a RetryAfter.
func (t *Transaction) Run(ctx context.Context, rev string, wait bool) (Outcome, error) {
	if t.opt.Device == nil {
		return Outcome{}, errNoDevice
	}
	longest := time.Duration(0)
	if wait {
		longest = forever
	}
	err := patient(ctx, longest, func() error {
		req, err := client.WithJSON("POST", "/commands", api.Command{Op: api.OpLocalRun, Payload: rev})
		if err != nil {
			return err
		}
		return t.opt.Device.Send(ctx, req)
	})
	if err != nil {
		return Outcome{}, fmt.Errorf("running revision %s: %w", rev, err)
	}
	out := Outcome{Revision: rev}
	for wait && !slices.Contains(ends, out.Progress.Status) {
		if err := t.opt.Device.Fetch(ctx, "/steps/"+rev+"/progress", &out.Progress); err != nil {
			return Outcome{}, err
		}
		if err := sleep(ctx, pause/4); err != nil {
			return Outcome{}, err
		}
	}
	return out, nil
}

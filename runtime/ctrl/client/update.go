package client

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
)

// Watch is told how an update goes. Its functions may be nil.
type Watch struct {
	Busy func()                       // called once when another update is in progress
	Step func(s api.UpdateStep) error // called for each status; an error ends the watching
}

// pollPeriod is the time between two looks at an update: the socket cannot push.
const pollPeriod = 500 * time.Millisecond

// absence is how long the device may not answer while an update is waited for or followed: it restarts.
const absence = 10 * time.Minute

// Update begins an update of a revision by send, again and again until the one that is in
// progress has ended, and follows it. It returns the update when nothing more will happen
// soon: it has ended, or waits for a reboot or a time.
func (c *Client) Update(ctx context.Context, rev string, send func() error, w Watch) (*api.Update, error) {
	last, err := c.lastUpdate(ctx)
	if err != nil {
		return nil, err
	}
	told, heard := false, time.Now()
	for {
		err := send()
		if err == nil {
			return c.follow(ctx, rev, last, w)
		}
		var bad *Refused
		switch answered := errors.As(err, &bad); {
		case answered && bad.Status == 503:
			heard = time.Now()
		case answered, !told, time.Since(heard) > absence: // the update before may restart the device
			return nil, err
		}
		if !told && w.Busy != nil {
			w.Busy()
		}
		told = true
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
}

func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pollPeriod):
		return nil
	}
}

// lastUpdate returns the number of the last update.
func (c *Client) lastUpdate(ctx context.Context) (int64, error) {
	var list []api.Update
	if err := c.Fetch(ctx, "/updates", &list); err != nil || len(list) == 0 {
		return 0, err
	}
	return list[len(list)-1].Number, nil
}

// follow watches an update that is newer than last until it ends.
func (c *Client) follow(ctx context.Context, rev string, last int64, w Watch) (*api.Update, error) {
	seen, heard := 0, time.Now()
	for {
		u, err := c.newest(ctx, rev, last)
		switch {
		case err == nil:
			heard = time.Now()
		case time.Since(heard) > absence:
			return nil, err
		}
		if u != nil {
			for ; seen < len(u.Path); seen++ {
				if w.Step == nil {
					continue
				}
				if err := w.Step(u.Path[seen]); err != nil {
					return nil, err
				}
			}
			if ended(u) {
				return u, nil
			}
		}
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
}

// newest returns the last update of a revision if it is newer than last, else nil.
func (c *Client) newest(ctx context.Context, rev string, last int64) (*api.Update, error) {
	var list []api.Update
	if err := c.Fetch(ctx, "/updates/"+rev, &list); err != nil {
		return nil, err
	}
	if n := len(list); n > 0 && list[n-1].Number > last {
		return &list[n-1], nil
	}
	return nil, nil //nolint:nilnil // it is not there yet
}

// ended reports whether nothing more will happen soon.
func ended(u *api.Update) bool {
	return slices.Contains([]string{"UPDATED", "DONE", "WONTGO", "ERROR", "CANCELED"}, u.Status) || u.Status == "QUEUED" && u.When != "" && u.Message != api.Preparing
}

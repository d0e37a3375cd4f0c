package pvtx

import (
	"context"
	"errors"
	"io/fs"

	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
)

// Difference is how a transaction differs from what runs, or, when it is local, from what
// it began with.
type Difference = state.Difference

// Diff compares the transaction with the running revision or its base.
func (t *Transaction) Diff(ctx context.Context) (Difference, error) {
	r, err := load(t.opt.Dir)
	if err != nil {
		return Difference{}, err
	}
	if r.phase != phaseActive {
		return Difference{}, ErrNone
	}
	next, err := t.read(fileState)
	if err != nil {
		return Difference{}, err
	}
	base, size, err := t.compared(ctx, r)
	if err != nil {
		return Difference{}, err
	}
	return state.Compare(base, next, size), nil
}

// compared returns what the transaction is compared with, and the sizes of objects.
func (t *Transaction) compared(ctx context.Context, r record) (*state.State, func(string) (int64, bool), error) {
	if !r.local() {
		base, err := t.revision(ctx, Current)
		if err != nil {
			return nil, nil, err
		}
		have, err := t.opt.Device.Objects(ctx)
		return base, func(sum string) (int64, bool) { n, ok := have[sum]; return n, ok }, err
	}
	base, err := t.read(fileBase)
	if errors.Is(err, fs.ErrNotExist) { // an earlier version began it
		base, err = state.New(state.Spec), nil
	}
	if err != nil {
		return nil, nil, err
	}
	store, err := objects.Open(r.objects)
	if err != nil {
		return nil, nil, err
	}
	return base, store.Size, nil
}

package pvtx

import (
	"context"
	"errors"
	"fmt"

	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/ctrl/client"
)

// Report is what an update to the transaction's state would do.
type Report struct {
	Difference
	Blockers []string `json:"blockers"` // why it cannot be done
	// Device is what the device says; nil for a local transaction, and when the device's
	// runtime makes no dry runs.
	Device *api.UpdateCheck `json:"device,omitempty"`
}

// Check compares as [Transaction.Diff] does and names what would stop the update, as far as the
// device knows. It writes nothing.
func (t *Transaction) Check(ctx context.Context) (Report, error) {
	d, err := t.Diff(ctx)
	if err != nil {
		return Report{}, err
	}
	r := Report{Difference: d, Blockers: []string{}}
	for _, sum := range d.Missing {
		r.Blockers = append(r.Blockers, fmt.Sprintf("object %s is missing; add the package that has it", sum))
	}
	if r.Device, err = t.dryRun(ctx); err != nil || r.Device == nil {
		return r, err
	}
	for _, b := range r.Device.Blockers {
		if b.Check != "object" { // they are in the list
			r.Blockers = append(r.Blockers, b.Text)
		}
	}
	return r, nil
}

// dryRun asks the device what an update would do.
func (t *Transaction) dryRun(ctx context.Context) (*api.UpdateCheck, error) {
	rec, err := load(t.opt.Dir)
	if err != nil || rec.local() {
		return nil, err
	}
	st, err := t.read(fileState)
	if err != nil {
		return nil, err
	}
	u, err := t.opt.Device.CheckState(ctx, st.Encode())
	if bad := (*client.Refused)(nil); errors.As(err, &bad) && (bad.Status == 400 || bad.Status == 501) { // an older runtime
		return nil, nil //nolint:nilnil // nobody knows
	}
	if err != nil {
		return nil, fmt.Errorf("asking what the update would do: %w", err)
	}
	return u, nil
}

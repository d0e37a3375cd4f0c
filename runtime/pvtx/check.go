package pvtx

import (
	"context"
	"fmt"
)

// Report is what an update to the transaction's state would do.
type Report struct {
	Difference
	Blockers []string `json:"blockers"` // why it cannot be done
}

// Check compares as [Transaction.Diff] does and names what would stop the update. It
// writes nothing.
func (t *Transaction) Check(ctx context.Context) (Report, error) {
	d, err := t.Diff(ctx)
	if err != nil {
		return Report{}, err
	}
	r := Report{Difference: d, Blockers: []string{}}
	for _, sum := range d.Missing {
		r.Blockers = append(r.Blockers, fmt.Sprintf("object %s is missing; add the package that has it", sum))
	}
	return r, nil
}

package pvtx

import (
	"errors"
	"io/fs"
	"os"
)

// Status is where a transaction is.
type Status struct {
	// Status is "none", "queue" (one is configured, and no transaction has begun),
	// "active", "aborted", "committed" or "deployed".
	Status  string   `json:"status"`
	Local   bool     `json:"local"`
	Objects string   `json:"objects,omitempty"` // directory of a local transaction's objects
	Queue   string   `json:"queue,omitempty"`   // directory of the queue
	Queued  []string `json:"queued,omitempty"`  // names of the queue's steps, in their order
	Parts   []string `json:"parts"`             // of an active transaction, sorted
}

// Status returns where the transaction is.
func (t *Transaction) Status() (Status, error) {
	r, err := load(t.opt.Dir)
	if err != nil {
		return Status{}, err
	}
	s := Status{Status: r.phase.String(), Local: r.local(), Objects: r.objects, Queue: r.queue, Parts: []string{}}
	if r.queue != "" {
		steps, err := entries(r.queue)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Status{}, err
		}
		for _, e := range steps {
			s.Queued = append(s.Queued, e.name)
		}
	}
	if r.phase != phaseActive {
		return s, nil
	}
	st, err := t.read(fileState)
	if errors.Is(err, os.ErrNotExist) {
		return s, nil // another process ends it just now
	}
	if err != nil {
		return Status{}, err
	}
	s.Parts = st.Parts()
	return s, nil
}

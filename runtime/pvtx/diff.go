package pvtx

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"

	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
)

// PartChange is how a part differs.
type PartChange struct {
	Part   string `json:"part"`
	Change string `json:"change"` // "added", "changed" or "removed"
	Files  int    `json:"files"`  // keys of the state that differ
	Bytes  int64  `json:"bytes"`  // of objects that the base lacks; those of two parts count for each
}

// Difference is how a transaction differs from what runs, or, when it is local, from what
// it began with.
type Difference struct {
	Parts []PartChange `json:"parts"` // sorted by name
	// Bytes is the size of all objects that the base lacks: what a device that has only
	// the base has to get.
	Bytes int64 `json:"bytes"`
	// Missing are the objects of the transaction that have not been added and are not there
	// otherwise, sorted.
	Missing []string `json:"missing"`
}

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
	return difference(base, next, size), nil
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

// sums returns the objects of the part in a state, each once.
func (p PartChange) sums(st *state.State) []string {
	return st.Select(p.Part, "_config/"+p.Part, "_sigs/"+p.Part+".json").Sums()
}

func difference(base, next *state.State, size func(string) (int64, bool)) Difference {
	had := map[string]bool{}
	for _, sum := range base.Sums() {
		had[sum] = true
	}
	d := Difference{Parts: changedParts(base, next), Missing: []string{}}
	for _, sum := range next.Sums() {
		n, ok := size(sum)
		switch {
		case !ok:
			d.Missing = append(d.Missing, sum)
		case !had[sum]:
			d.Bytes += n
		}
	}
	for i := range d.Parts {
		for _, sum := range d.Parts[i].sums(next) {
			if n, ok := size(sum); ok && !had[sum] {
				d.Parts[i].Bytes += n
			}
		}
	}
	return d
}

// changedParts returns the parts that differ, without their bytes.
func changedParts(base, next *state.State) []PartChange {
	files := map[string]int{}
	for _, c := range state.Changes(base, next) {
		if c.Key != state.SpecKey {
			files[state.PartOf(c.Key)]++
		}
	}
	before, after := partSet(base), partSet(next)
	parts := []PartChange{}
	for _, part := range slices.Sorted(maps.Keys(files)) {
		parts = append(parts, PartChange{Part: part, Change: kind(before[part], after[part]), Files: files[part]})
	}
	return parts
}

func partSet(s *state.State) map[string]bool {
	set := map[string]bool{}
	for _, p := range s.Parts() {
		set[p] = true
	}
	return set
}

func kind(before, after bool) string {
	switch {
	case !before:
		return "added"
	case !after:
		return "removed"
	}
	return "changed"
}

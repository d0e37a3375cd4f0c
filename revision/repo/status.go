package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/state"
)

// untracked is the mark of a file that is neither committed nor added.
const untracked state.Op = '?'

// Status lists the differences between the committed state and the working tree:
// added, deleted, changed and untracked files, in this order. Names limit it to those
// files and to what is below those directories; a name may be a pattern of
// [path.Match]. A name that neither has is an error that wraps fs.ErrNotExist.
func (r *Repo) Status(ctx context.Context, names ...string) ([]state.Change, error) {
	w, pick, err := r.picked(ctx, names)
	if err != nil {
		return nil, err
	}
	var out []state.Change
	changes := state.Changes(r.committed, w.State)
	for _, op := range []state.Op{state.Added, state.Deleted, state.Changed} {
		for _, c := range changes {
			if c.Op == op && pick(c.Key) {
				out = append(out, c)
			}
		}
	}
	for _, key := range w.Untracked {
		if pick(key) {
			out = append(out, state.Change{Key: key, Op: untracked})
		}
	}
	return out, nil
}

// Diff returns the merge patch from the committed state to the working tree,
// limited as Status is.
func (r *Repo) Diff(ctx context.Context, names ...string) (canon.Value, error) {
	w, pick, err := r.picked(ctx, names)
	if err != nil {
		return canon.Value{}, err
	}
	var members []canon.Member
	for _, m := range state.Diff(r.committed, w.State).Members() {
		if pick(m.Name) {
			members = append(members, m)
		}
	}
	return canon.Obj(members...), nil
}

// picked returns the working tree and a filter for its keys, by names.
func (r *Repo) picked(ctx context.Context, names []string) (*Working, func(key string) bool, error) {
	w, err := r.Working(ctx)
	if err != nil {
		return nil, nil, err
	}
	var errs []error
	for _, name := range names {
		one, err := selector([]string{name})
		if err != nil {
			return nil, nil, err
		}
		if name == "" {
			errs = append(errs, errors.New("the name of a file is empty"))
			continue
		}
		known := slices.ContainsFunc(w.State.Keys(), one) || slices.ContainsFunc(r.committed.Keys(), one) || slices.ContainsFunc(w.Untracked, one)
		if _, err := os.Lstat(filepath.Join(r.dir, name)); !known && err != nil {
			errs = append(errs, fmt.Errorf("%s: no file of the commit or the working tree: %w", name, fs.ErrNotExist))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, nil, err
	}
	pick, err := selector(names)
	return w, pick, err
}

// selector returns a filter for keys.
func selector(names []string) (func(key string) bool, error) {
	var clean []string
	for _, name := range names {
		if _, err := path.Match(name, ""); err != nil {
			return nil, fmt.Errorf("reading pattern %q: %w", name, err)
		}
		clean = append(clean, filepath.ToSlash(filepath.Clean(name)))
	}
	return func(key string) bool {
		for _, name := range clean {
			matched, _ := path.Match(name, key) // checked above
			if matched || name == "." || name == key || strings.HasPrefix(key, name+"/") {
				return true
			}
		}
		return len(clean) == 0
	}, nil
}

package repo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/internal/filelock"
	"github.com/pantavisor/pantavisor/revision/archive"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
)

// errIncomplete is wrapped by the errors for sources that lack objects of their
// states.
var errIncomplete = errors.New("the source lacks objects of its state")

// Taken is a source and the parts to take from it.
type Taken struct {
	Source Source
	Ref    Ref
}

// Get takes a state from a source into the repository. It replaces the committed state
// or the parts that the fragment selects, or with merge is merged into it. All objects of
// the source come, so that further parts can be taken from the new repository. The
// working tree does not change.
func (r *Repo) Get(ctx context.Context, src Source, ref Ref, merge bool) (*Pulled, error) {
	all, err := r.getAll(ctx, merge, true, Taken{src, ref})
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// GetAll is Get for several sources, applied in order; of a source whose fragment names
// parts only their objects come. The committed state is replaced once, after all of them
// arrived. Only a single source is remembered as the default.
func (r *Repo) GetAll(ctx context.Context, merge bool, from ...Taken) ([]*Pulled, error) {
	return r.getAll(ctx, merge, false, from...)
}

func (r *Repo) getAll(ctx context.Context, merge, whole bool, from ...Taken) ([]*Pulled, error) {
	if err := r.writable(); err != nil {
		return nil, err
	}
	store, err := r.Objects()
	if err != nil {
		return nil, err
	}
	st := r.committed
	var all []*Pulled
	for _, t := range from {
		pulled, err := t.Source.Pull(ctx, store, transferred(t.Ref.Fragment, whole))
		if err != nil {
			return nil, err
		}
		pulled.Unmatched = unmatched(st, pulled.State, t.Ref.Fragment)
		if st, err = combine(store, st, pulled.State, t.Ref.Fragment, merge); err != nil {
			return nil, err
		}
		all = append(all, pulled)
	}
	if err := r.setCommitted(st); err != nil {
		return nil, err
	}
	if len(from) != 1 {
		return all, nil
	}
	config := r.config
	config.remember(from[0].Ref.Text, from[0].Ref.URL != "")
	return all, r.SetConfig(config)
}

// combine applies a source's state to st; the store must hold the resulting objects.
func combine(store *objects.Store, st, source *state.State, f state.Fragment, merge bool) (*state.State, error) {
	how := state.Get
	if merge {
		how = state.Merge
	}
	out, err := how(st, source, f)
	if err != nil {
		return nil, fmt.Errorf("combining the states: %w", err)
	}
	return out, complete(store, out, source)
}

func unmatched(st, source *state.State, f state.Fragment) []string {
	out := state.Fragment{Take: f.Take}.Unmatched(source)
	return append(out, state.Fragment{Drop: f.Drop}.Unmatched(source, st)...)
}

// transferred returns a function that reports whether the objects of a key come with a
// fragment: those of its parts, or all when it only drops parts.
func transferred(f state.Fragment, whole bool) func(key string) bool {
	if whole || len(f.Take) == 0 {
		return func(string) bool { return true }
	}
	return f.Takes
}

// complete checks that the store holds every object of st that came from source.
func complete(store *objects.Store, st, source *state.State) error {
	var errs []error
	for _, o := range source.Objects() {
		if sum, ok := st.Object(o.Path); ok && sum == o.Sum && !store.Has(sum) {
			errs = append(errs, fmt.Errorf("%w: %s (%s)", errIncomplete, o.Path, o.Sum))
		}
	}
	return errors.Join(errs...)
}

// Import replaces the committed state with that of an archive and stores its objects.
// Nothing changes unless the whole archive is valid.
func (r *Repo) Import(ctx context.Context, f *os.File) error {
	if err := r.writable(); err != nil {
		return err
	}
	store, err := r.Objects()
	if err != nil {
		return err
	}
	st, err := archive.Import(ctx, f, store, archive.ImportOptions{})
	if err != nil {
		return fmt.Errorf("importing %s: %w", f.Name(), err)
	}
	if err := complete(store, st, st); err != nil {
		return fmt.Errorf("importing %s: %w", f.Name(), err)
	}
	return r.setCommitted(st)
}

// CloneOptions control a clone.
type CloneOptions struct {
	Init     InitOptions
	Open     Options
	Checkout CheckoutOptions
	// Pulled is called with what was transferred, before the checkout; may be nil.
	Pulled func(*Pulled)
}

// Stage is a part of a long command, for exit codes.
type Stage int

// The stages of clone and deploy, in their order.
const (
	StageInit Stage = iota
	StageTransfer
	StageCheckout
	StagePlace // renaming a complete clone
	StageClean // deleting untracked files
	StageBoot  // boot links
)

// StageError is an error with the stage in which the command failed.
type StageError struct {
	Stage Stage
	Err   error
}

// Error implements error.
func (e *StageError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *StageError) Unwrap() error { return e.Err }

func at(stage Stage, err error) error {
	if err == nil {
		return nil
	}
	return &StageError{stage, err}
}

const (
	clonePrefix = "pvr-clone-"
	// cloneMark is a file in .pvr of an unfinished clone, which nothing else is: a
	// checkout of a user may have any name.
	cloneMark = ".clone"
)

// sweepClones removes the unfinished clones of killed commands in a directory.
func sweepClones(parent string) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return
	}
	for _, e := range entries {
		dir := filepath.Join(parent, e.Name())
		if !e.IsDir() || !strings.HasPrefix(e.Name(), clonePrefix) {
			continue
		}
		if _, err := os.Lstat(filepath.Join(dir, Dir, cloneMark)); err != nil {
			continue
		}
		if lock, err := filelock.Try(dir, filelock.Options{}); err == nil {
			_ = os.RemoveAll(dir)
			lock.Unlock()
		}
	}
}

// Clone makes a new checkout of a source. It is built in a directory beside the target,
// "pvr-clone-RANDOM", which is renamed when it is complete; the target must not exist
// or must be empty. Only its owner can access the checkout (mode 0700).
func Clone(ctx context.Context, src Source, ref Ref, target string, opt CloneOptions) error {
	if entries, err := os.ReadDir(target); err == nil && len(entries) > 0 {
		return at(StagePlace, fmt.Errorf("cloning to %s: the directory is not empty", target))
	} else if info, statErr := os.Stat(target); statErr == nil && !info.IsDir() {
		return at(StagePlace, fmt.Errorf("cloning to %s: there is a file of that name; name another directory", target))
	}
	sweepClones(filepath.Dir(target))
	temp, err := os.MkdirTemp(filepath.Dir(target), clonePrefix)
	if err != nil {
		return at(StageInit, fmt.Errorf("cloning to %s: %w", target, err))
	}
	defer os.RemoveAll(temp)
	lock, err := filelock.Acquire(ctx, temp, filelock.Options{Shared: true})
	if err == nil { // else a file system without locks
		defer lock.Unlock()
	}
	mark := filepath.Join(temp, Dir, cloneMark)
	if err := errors.Join(os.Mkdir(filepath.Dir(mark), 0o755), os.WriteFile(mark, nil, 0o600)); err != nil {
		return at(StageInit, fmt.Errorf("cloning to %s: %w", target, err))
	}
	if err := Init(temp, opt.Init); err != nil {
		return at(StageInit, err)
	}
	opt.Open.Write = true
	r, err := Open(ctx, temp, opt.Open)
	if err != nil {
		return at(StageInit, err)
	}
	defer r.Close()
	pulled, err := r.Get(ctx, src, ref, false)
	if err != nil {
		return at(StageTransfer, err)
	}
	if opt.Pulled != nil {
		opt.Pulled(pulled)
	}
	opt.Checkout.trusted, opt.Checkout.fresh = pulled.trusted(), true
	if err := r.Checkout(ctx, opt.Checkout); err != nil {
		return at(StageCheckout, err)
	}
	if err := os.Remove(mark); err != nil { // no sweep takes it for unfinished from now on
		return at(StagePlace, fmt.Errorf("cloning to %s: %w", target, err))
	}
	r.Close() // Windows does not rename a directory with open files
	if lock != nil {
		lock.Unlock()
	}
	if err := rename(temp, target); err != nil {
		return at(StagePlace, fmt.Errorf("cloning to %s: %w", target, err))
	}
	return nil
}

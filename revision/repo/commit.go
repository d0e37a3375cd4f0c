package repo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
)

// NoMessage is the commit message when none is given.
const NoMessage = "** No commit message **"

// CommitOptions control a commit.
type CommitOptions struct {
	Message string // default NoMessage
	// Checkpoint writes checkpoint.json with the time and commits it, too.
	Checkpoint bool
	// Report is called with each change after all of them are stored; may be nil.
	Report func(Committed)
}

// Committed is one change of a commit.
type Committed struct {
	state.Change
	Object string // SHA-256 of the new content when the file is an object
}

// Commit makes the working tree's tracked files the committed state. It stores the
// objects first and then replaces the state, so a kill leaves the old state or the
// new one.
func (r *Repo) Commit(ctx context.Context, opt CommitOptions) error {
	if err := r.writable(); err != nil {
		return err
	}
	if opt.Checkpoint {
		if err := r.checkpoint(); err != nil {
			return err
		}
	}
	w, err := r.Working(ctx)
	if err != nil {
		return err
	}
	changes := state.Changes(r.committed, w.State)
	if err := r.storeChanges(ctx, w.State, changes); err != nil {
		return err
	}
	if opt.Report != nil {
		for _, c := range changes {
			sum, _ := w.State.Object(c.Key)
			opt.Report(Committed{c, sum})
		}
	}
	if opt.Message == "" {
		opt.Message = NoMessage
	}
	if err := atomicfile.Write(filepath.Join(r.dot(), "commitmsg"), []byte(opt.Message), 0o644); err != nil {
		return fmt.Errorf("writing the commit message: %w", err)
	}
	if err := r.setCommitted(w.State); err != nil {
		return err
	}
	return r.dropAddList()
}

func (r *Repo) checkpoint() error {
	text, err := json.Marshal(map[string]string{"major": time.Now().Format(time.RFC3339)})
	if err != nil {
		return err
	}
	const name = "checkpoint.json"
	if err := atomicfile.Write(filepath.Join(r.dir, name), text, 0o640); err != nil {
		return fmt.Errorf("writing the checkpoint: %w", err)
	}
	r.added[name] = addition{}
	return nil
}

// storeChanges puts the new contents of changed files into the object store.
func (r *Repo) storeChanges(ctx context.Context, st *state.State, changes []state.Change) error {
	store, err := r.Objects()
	if err != nil {
		return err
	}
	batch := store.Batch()
	defer batch.Abort()
	var todo []state.Object
	seen := map[string]bool{}
	for _, c := range changes {
		if sum, ok := st.Object(c.Key); ok && !seen[sum] {
			seen[sum] = true
			todo = append(todo, state.Object{Path: c.Key, Sum: sum})
		}
	}
	err = parallel(ctx, len(todo), func(ctx context.Context, i int) error {
		return r.storeFile(ctx, batch, todo[i].Path, todo[i].Sum)
	})
	if err != nil {
		return err
	}
	return batch.Commit()
}

func (r *Repo) storeFile(ctx context.Context, batch *objects.Batch, key, sum string) error {
	f, _, err := r.openFile(key)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = batch.PutFile(ctx, f, sum)
	if errors.Is(err, objects.ErrMismatch) {
		return fmt.Errorf("storing %s: the file changed meanwhile; commit again: %w", key, err)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("storing %s: %w", key, err)
	}
	return err
}

package trail

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
)

// errDamaged is wrapped by the errors about a trail that differs from its state.
var errDamaged = errors.New("trail differs from its state")

// verify compares a trail with its state: every object must be the same inode as in
// the store (copies of ".bind" files excepted) and every inline value must have the
// state's JSON value. With content each object is also hashed, once, unless skip
// returns true for its path. Every difference is reported.
func verify(ctx context.Context, dir string, st *state.State, store *objects.Store, content bool, skip func(path string) bool) error {
	var errs []error
	hashed := map[string]bool{}
	for _, o := range st.Objects() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := sameFile(dir, o, store); err != nil {
			errs = append(errs, err)
			continue
		}
		if !content || hashed[o.Sum] || skip != nil && skip(o.Path) {
			continue
		}
		hashed[o.Sum] = true
		if err := store.Verify(ctx, o.Sum); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", o.Path, err))
		}
	}
	for _, key := range st.Inlines() {
		if err := sameValue(dir, key, st); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func sameFile(dir string, o state.Object, store *objects.Store) error {
	info, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(o.Path)))
	if err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	path, err := store.Path(o.Sum)
	if err != nil {
		return err
	}
	object, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", errDamaged, o.Path, err)
	}
	if !strings.HasSuffix(o.Path, ".bind") && !os.SameFile(info, object) {
		return fmt.Errorf("%w: %s is not the object %s", errDamaged, o.Path, o.Sum)
	}
	return nil
}

func sameValue(dir, key string, st *state.State) error {
	text, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(key)))
	if err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	want, _ := st.Get(key)
	if got, err := canon.Canonical(text); err != nil || !bytes.Equal(got, want) {
		return fmt.Errorf("%w: the value of %s is another", errDamaged, key)
	}
	return nil
}

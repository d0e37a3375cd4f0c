package debian

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/filelock"
)

// TestCancelledWhileAnotherFetches cancels a build that waits for a file that another
// build fetches, or for package lists that another build reads.
func TestCancelledWhileAnotherFetches(t *testing.T) {
	t.Parallel()
	store, _, _, e := newStore(t)
	r := &root{dir: t.TempDir()}
	if err := os.MkdirAll(store.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, lock string
		run        func(context.Context) error
	}{
		{"file", store.file(e) + ".lock", func(ctx context.Context) error {
			_, err := store.Get(ctx, e)
			return err
		}},
		{"lists", filepath.Join(r.dir, "lock"), func(ctx context.Context) error { return r.update(ctx, &Apt{}) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			held, err := filelock.Try(c.lock, filelock.Options{Create: 0o644})
			if err != nil {
				t.Fatal(err)
			}
			defer held.Unlock()
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := c.run(ctx); !errors.Is(err, context.Canceled) || fault.Of(err) != fault.Cancelled {
				t.Errorf("%v (%v), want it cancelled", err, fault.Of(err))
			}
		})
	}
}

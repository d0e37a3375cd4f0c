package build

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/filelock"
)

// A build that waits for another one to publish ends when it is cancelled, and changes
// nothing.
func TestCancelledWhileAnotherPublishes(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out", "test")
	other, err := lockOut(t.Context(), out)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	b, _ := builder(t, t.TempDir())
	s := &step{Label: "content", name: "image"}
	res, err := b.make(ctx, []Step{s})
	if err != nil {
		t.Fatal(err)
	}
	cancel() // only publishing is left
	_, err = b.deliver(ctx, res, out, []Artefact{{s, "file", "test.img"}})
	if !errors.Is(err, context.Canceled) || fault.Of(err) != fault.Cancelled {
		t.Errorf("Deliver: %v (%v), want it cancelled", err, fault.Of(err))
	}
	if _, err := os.Lstat(filepath.Join(out, "test.img")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("test.img: %v, want it not to be there", err)
	}
}

// A lock that cannot be taken for a reason other than cancellation is an error of the
// step.
func TestLockFileUnusable(t *testing.T) {
	b, _ := builder(t, t.TempDir())
	if err := os.Symlink("elsewhere", b.Cache.locks()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Build(t.Context(), &step{Label: "x", name: "x"}); fault.Of(err) != fault.IO {
		t.Errorf("Build: %v (%v), want an error of kind %v", err, fault.Of(err), fault.IO)
	}
	if l, err := b.Cache.tryLock(1); l != nil || errors.Is(err, filelock.ErrHeld) || err == nil {
		t.Errorf("tryLock: %v, %v, want another error than %v", l, err, filelock.ErrHeld)
	}
}

package repo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// lockDir takes the lock of a repository: shared for a look, exclusive for a
// change. It belongs to the open folder, so the kernel drops it with the process,
// and it leaves no file behind.
func lockDir(ctx context.Context, dot string, opt Options) (*os.File, error) {
	f, err := os.Open(dot)
	if err != nil {
		return nil, fmt.Errorf("opening the repository: %w", err)
	}
	how := unix.LOCK_SH
	if opt.Write {
		how = unix.LOCK_EX
	}
	err = flock(f, how|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		if opt.Waiting != nil {
			opt.Waiting()
		}
		return waitLock(ctx, f, how)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("locking %s: %w", dot, err)
	}
	return f, nil
}

// waitLock waits for the lock or the end of the context. The kernel cannot be
// told to stop waiting, so a waiter that is given up closes the file itself.
func waitLock(ctx context.Context, f *os.File, how int) (*os.File, error) {
	got := make(chan error)
	go func() {
		err := flock(f, how)
		select {
		case got <- err:
		case <-ctx.Done():
			_ = f.Close()
		}
	}()
	select {
	case err := <-got:
		if err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("locking %s: %w", f.Name(), err)
		}
		return f, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the lock of %s: %w", f.Name(), ctx.Err())
	}
}

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// stageDir is where checkouts prepare files, below .pvr.
const stageDir = ".stage"

// sweep removes what killed commands left in the folder; the lock is held. Errors
// are left to whoever needs the place.
func sweep(dot string) {
	entries, err := os.ReadDir(dot)
	if err != nil {
		return
	}
	for _, e := range entries {
		name := e.Name()
		if name == stageDir || strings.HasPrefix(name, ".") && strings.Contains(name, ".tmp-") {
			_ = os.RemoveAll(filepath.Join(dot, name))
		}
	}
}

package repo

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/filelock"
)

// lockDir takes the lock of a repository: shared for reading, exclusive for a change.
// The lock is on the directory and leaves no file behind.
func lockDir(ctx context.Context, dot string, opt Options) (*filelock.Lock, error) {
	l, err := filelock.Acquire(ctx, dot, filelock.Options{Shared: !opt.Write, Waiting: opt.Waiting})
	if err != nil {
		return nil, fmt.Errorf("opening the repository: %w", err)
	}
	return l, nil
}

// stageDir is where checkouts prepare files, below .pvr.
const stageDir = ".stage"

// sweep removes what killed commands left in the repository and at the top of the
// checkout; the lock is held. It ignores errors: a later step that needs the space
// reports them.
func sweep(dir string) {
	sweepDot(filepath.Join(dir, Dir))
	atomicfile.Sweep(dir)
	atomicfile.Sweep(filepath.Join(dir, SigDir))
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if e.IsDir() && atomicfile.IsTemporary(e.Name()) { // an unfinished application
			_ = os.RemoveAll(filepath.Join(dir, e.Name()))
		}
	}
}

func sweepDot(dot string) {
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

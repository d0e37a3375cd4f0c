package pvtx

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/trail"
)

// maxConfig bounds the file .pvr/config of a directory that is deployed to, in bytes.
const maxConfig = 1 << 20

// Deploy writes a local transaction to a directory, as a device's storage has a revision,
// see [trail.Checkout]: objects are hard links, so the directory of objects must be on the
// same file system. A directory that exists is exchanged as a whole, at once, when the new
// one is durable; its .pvr/config is kept. Files that bsp/run.json names and the state
// lacks are warnings.
func (t *Transaction) Deploy(ctx context.Context, dir string) error {
	return t.change(func(r record) error {
		switch {
		case r.phase != phaseActive && r.phase != phaseDeployed:
			return ErrNone
		case !r.local():
			return ErrNotLocal
		}
		if err := t.deploy(ctx, r.objects, dir); err != nil {
			return err
		}
		r.phase = phaseDeployed
		return r.store(t.opt.Dir)
	})
}

func (t *Transaction) deploy(ctx context.Context, from, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	config, err := oldConfig(dir)
	if err != nil {
		return err
	}
	st, err := t.read(fileState)
	if err != nil {
		return err
	}
	store, err := objects.Open(from)
	if err != nil {
		return err
	}
	return trail.Checkout(ctx, dir, st, store, trail.Options{
		Replace: true, ObjectsDir: from, Config: config,
		Missing: func(err error) { t.opt.Warn(err.Error()) },
	})
}

// oldConfig returns the configuration of a directory that is to be replaced, nil when it
// has none. A directory with other files and none of a deployment is an error, because
// they would be lost.
func oldConfig(dir string) ([]byte, error) {
	config, err := bounded.ReadFile(filepath.Join(dir, ".pvr", "config"), maxConfig)
	if !errors.Is(err, fs.ErrNotExist) {
		return config, err
	}
	if _, err := os.Lstat(filepath.Join(dir, ".pvr")); err == nil {
		return nil, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if len(entries) > 0 {
		return nil, fmt.Errorf("%s has files and is not a deployment, which has .pvr; empty it first", dir)
	}
	return nil, nil
}

package device

import (
	"cmp"
	"context"
	"path/filepath"
	"sync"

	"github.com/pantavisor/pantavisor/runtime/boot"
	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/engine"
	"github.com/pantavisor/pantavisor/runtime/logs"
	"github.com/pantavisor/pantavisor/runtime/step"
)

// collector collects garbage. While a collection is in progress, another one fails with
// engine.ErrBusy.
type collector struct {
	cfg      *config.Config
	inUse    func() []string // the revisions whose files are in use
	updating func() []string // the revisions that an update needs
	paths    paths
	steps    *step.Store
	log      logs.Logger
	mu       sync.Mutex // held while garbage is collected
}

// start collects garbage in the background.
func (c *collector) start(bg *services) error {
	if !c.mu.TryLock() {
		return engine.ErrBusy
	}
	bg.start("collecting garbage", func(ctx context.Context) error {
		defer c.mu.Unlock()
		freed, err := c.run(ctx)
		if err == nil {
			c.log.Infof("collecting garbage freed %d bytes", freed)
		}
		return err
	})
	return nil
}

// collect collects garbage and returns the bytes that it freed.
func (c *collector) collect(ctx context.Context) (int64, error) {
	if !c.mu.TryLock() {
		return 0, engine.ErrBusy
	}
	defer c.mu.Unlock()
	return c.run(ctx)
}

func (c *collector) run(ctx context.Context) (int64, error) { return c.garbage().Collect(ctx) }

// garbage returns what is garbage now. What came within the defer time is none, also for a
// collection that somebody asked for: it may be another client's.
func (c *collector) garbage() *step.Garbage {
	return &step.Garbage{
		Steps: c.steps, Objects: c.paths.objects, Keep: c.kept, Sweep: []string{filepath.Join(c.paths.storage, "boot")}, Beside: c.paths.beside,
		Defer: c.cfg.Duration(config.StorageGCThresholdDefertime),
	}
}

// kept lists the revisions to keep: those in use, those that an update needs, those that
// the boot loader may boot, the last good one among them, and the factory revision when
// PV_STORAGE_GC_KEEP_FACTORY is set.
func (c *collector) kept() ([]string, error) {
	store, err := boot.Configured(c.cfg, c.paths.storage)
	if err != nil {
		return nil, err
	}
	values, err := store.Load() // in doubt nothing is removed
	if err != nil {
		return nil, err
	}
	// Without a committed revision the loader starts the factory's.
	keep := append(c.inUse(), cmp.Or(values.Rev, boot.Factory), values.Try, c.steps.Running())
	keep = append(keep, c.updating()...)
	if c.cfg.Bool(config.StorageGCKeepFactory) {
		keep = append(keep, boot.Factory)
	}
	return keep, nil
}

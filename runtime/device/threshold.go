package device

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/engine"
	"github.com/pantavisor/pantavisor/runtime/logs"
)

// threshold collects garbage when little of the storage is free (manual: Storage, garbage
// collector, threshold). The kernel does not report that, so it asks from time to time.
type threshold struct {
	cfg     *config.Config
	size    func() (storageMeta, bool)
	collect func(ctx context.Context) (int64, error)
	log     logs.Logger

	mu     sync.Mutex
	stored time.Time // when the last object came: its revision may be yet to come
	tried  time.Time // when garbage was last collected
}

const (
	thresholdPeriod = 30 * time.Second // between two looks
	thresholdRetry  = 10 * time.Minute // after a collection that did not free enough
)

// objectStored puts the next collection off (PV_STORAGE_GC_THRESHOLD_DEFERTIME).
func (t *threshold) objectStored(string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stored = time.Now()
}

// run looks at the storage until ctx ends.
func (t *threshold) run(ctx context.Context) error {
	tick := time.NewTicker(thresholdPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			t.look(ctx, now)
		}
	}
}

// look collects garbage if it is time to.
func (t *threshold) look(ctx context.Context, now time.Time) {
	percent, due := t.due(now)
	if !due {
		return
	}
	freed, err := t.collect(ctx)
	switch {
	case errors.Is(err, engine.ErrBusy):
		return // somebody else collects
	case err != nil:
		t.log.Warnf("%v", err)
	default:
		t.log.Infof("%d %% of the storage were free, less than PV_STORAGE_GC_THRESHOLD: collecting garbage freed %d bytes", percent, freed)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tried = now
}

// due reports whether less of the storage is free than the configuration wants, in percent
// and without the reserved part, and nothing puts the collection off.
func (t *threshold) due(now time.Time) (percent int64, due bool) {
	least := int64(t.cfg.Int(config.StorageGCThreshold))
	t.mu.Lock()
	off := now.Sub(t.stored) < t.cfg.Duration(config.StorageGCThresholdDefertime) || now.Sub(t.tried) < thresholdRetry
	t.mu.Unlock()
	if least == 0 || off {
		return 0, false
	}
	size, ok := t.size()
	if !ok || size.Total <= 0 {
		return 0, false
	}
	percent = size.RealFree / max(size.Total/100, 1)
	return percent, percent < least
}

package device

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/engine"
	"github.com/pantavisor/pantavisor/runtime/logs"
)

func TestThreshold(t *testing.T) {
	t.Parallel()
	var log []string
	free, collected := int64(30_000), 0
	var failure error
	th := &threshold{
		cfg:     configured(t, map[config.Key]string{config.StorageGCThreshold: "20", config.StorageGCThresholdDefertime: "60"}),
		size:    func() (storageMeta, bool) { return storageMeta{Total: 100_000, RealFree: free}, true },
		collect: func(context.Context) (int64, error) { collected++; return 7, failure },
		log:     logs.Logger{Sink: sinkFunc(func(s string) { log = append(log, s) })},
	}
	now := time.Now()
	look := func(what string, after time.Duration, want int) {
		t.Helper()
		now = now.Add(after)
		if th.look(t.Context(), now); collected != want {
			t.Errorf("%s: %d collections, want %d", what, collected, want)
		}
	}
	look("enough is free", 0, 0)
	free = 20_000
	look("as much as wanted", thresholdPeriod, 0)
	free = 19_999
	look("too little", thresholdPeriod, 1)
	look("soon after", thresholdPeriod, 1)
	look("later", thresholdRetry, 2)
	th.objectStored("")
	th.stored = now.Add(thresholdRetry)
	look("an object came", thresholdRetry+59*time.Second, 2)
	look("its time is over", time.Second, 3)
	failure = engine.ErrBusy
	look("while somebody collects", thresholdRetry, 4)
	failure = errors.New("broken")
	look("and when he has ended", thresholdPeriod, 5)
	th.cfg.Apply(config.Env, config.StorageGCThreshold, "0")
	look("switched off", thresholdRetry, 5)
	if len(log) != 4 || log[0] != "INFO 19 % of the storage were free, less than PV_STORAGE_GC_THRESHOLD: collecting garbage freed 7 bytes" || log[3] != "WARN broken" {
		t.Errorf("log: %q", log)
	}
}

package main

import (
	"math"
	"runtime"
	"runtime/debug"
	"testing"
)

// TestTheLimitGrows: a limit below what lives has the collector run without pause.
func TestTheLimitGrows(t *testing.T) {
	defer debug.SetMemoryLimit(math.MaxInt64)
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	limitGarbage()
	live := make([]byte, 3*memoryLimit)
	runtime.GC()
	new(collection).end()
	if limit := debug.SetMemoryLimit(-1); limit < int64(len(live)) {
		t.Errorf("the limit is %d bytes while %d live", limit, len(live))
	}
	runtime.KeepAlive(live)
	live = nil //nolint:ineffassign,wastedassign // it is garbage now
	runtime.GC()
	new(collection).end()
	if limit := debug.SetMemoryLimit(-1); limit > 2*memoryLimit {
		t.Errorf("the limit is %d bytes when hardly anything lives", limit)
	}
}

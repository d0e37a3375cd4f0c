package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// The collector lets garbage grow to gcPercent of what lives, because most commands
// end before they have much of it, and works harder before the tool grows large: beyond
// memoryLimit garbage is at most a half of what lives.
const (
	gcPercent   = 200
	memoryLimit = 32 << 20
)

// limitGarbage sets the collector up. A fixed limit would have it run without pause as soon
// as more than that lives, as with a state of hundreds of thousands of files.
func limitGarbage() {
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
	runtime.SetFinalizer(new(collection), (*collection).end)
}

// collection is garbage whose finaliser runs after each collection.
type collection struct{ _ [16]byte }

func (c *collection) end() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	debug.SetMemoryLimit(limitFor(int64(live[0].Value.Uint64()))) //nolint:gosec // no machine has so much
	runtime.SetFinalizer(c, (*collection).end)
}

func limitFor(live int64) int64 { return max(memoryLimit, live+live/2) }

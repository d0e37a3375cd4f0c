package ext4

import "fmt"

// allocator hands out the blocks between the metadata, in order.
type allocator struct {
	metadata []run // not yet passed
	at, end  int64
	used     int64 // blocks handed out
}

func newAllocator(g *geometry) allocator {
	return allocator{metadata: g.metadata, at: g.first, end: g.blocks}
}

// next returns the next run of up to n blocks.
func (a *allocator) next(n int64) (run, error) {
	for len(a.metadata) > 0 && a.at >= a.metadata[0].start {
		a.at = max(a.at, a.metadata[0].end)
		a.metadata = a.metadata[1:]
	}
	limit := a.end
	if len(a.metadata) > 0 {
		limit = a.metadata[0].start
	}
	r := run{a.at, min(a.at+n, limit)}
	if r.end <= r.start {
		return run{}, fmt.Errorf("all of its %d blocks are in use: %w", a.end, ErrFull)
	}
	a.at = r.end
	a.used += r.end - r.start
	return r, nil
}

// one returns the next block.
func (a *allocator) one() (int64, error) {
	r, err := a.next(1)
	return r.start, err
}

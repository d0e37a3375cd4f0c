package step

import (
	"math"
	"sync"
	"time"
)

// maxRecent bounds the names that a store remembers; for more of them the times of their
// files count.
const maxRecent = 1 << 14

// recent remembers when objects and revisions came, by a clock that is not set.
type recent struct {
	mu sync.Mutex
	at map[string]time.Time
}

func (r *recent) add(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at == nil || len(r.at) >= maxRecent {
		r.at = map[string]time.Time{}
	}
	r.at[name] = time.Now()
}

// since returns how long ago something came, the longest time when that is not known.
func (r *recent) since(name string, now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at, ok := r.at[name]; ok {
		return now.Sub(at)
	}
	return math.MaxInt64
}

// Came tells the store that a client relies on an object, which it has sent or found: it is
// no garbage for a while (see [Garbage]).
func (s *Store) Came(object string) {
	defer s.Pin()()
	s.recent.add(object)
}

// Pin keeps the garbage collector from removing anything until unpin is called: for the
// check that all objects of a state are there, and its storing.
func (s *Store) Pin() (unpin func()) {
	s.refs.RLock()
	return s.refs.RUnlock
}

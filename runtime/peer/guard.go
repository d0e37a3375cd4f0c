package peer

import (
	"io"
	"sync"
	"time"
)

// Guard bounds the connections of a server, in total and for each peer. When it needs
// a slot, it closes the connection that has been idle or has waited for its peer for
// the longest time: one of the same peer when that peer is at its limit, else one of
// the peer with the most connections. So a peer that opens thousands of connections
// loses only its own.
type Guard struct {
	Max    int // connections at the same time; 0 means 128
	MaxPer int // of one peer; 0 means 32

	mu    sync.Mutex
	slots map[*Slot]struct{}
	per   map[string]int

	draining bool
}

// Slot is the place of one connection in a [Guard].
type Slot struct {
	guard *Guard
	key   string
	conn  io.Closer
	doing doing
	since time.Time
	gone  bool
}

// doing is the state of a connection.
type doing int

const (
	idle    doing = iota // between two requests
	busy                 // the server works on a request
	waiting              // for the peer to send or receive the rest
)

// Admit returns a slot for conn of the peer key. It closes conn and returns nil when
// every slot that it could free is busy.
func (g *Guard) Admit(key string, conn io.Closer) *Slot {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.slots == nil {
		g.slots, g.per = map[*Slot]struct{}{}, map[string]int{}
	}
	if g.per[key] >= orDefault(g.MaxPer, 32) && !g.evict(key) || len(g.slots) >= orDefault(g.Max, 128) && !g.evict(g.heaviest()) {
		_ = conn.Close()
		return nil
	}
	s := &Slot{guard: g, key: key, conn: conn, since: time.Now()}
	g.slots[s] = struct{}{}
	g.per[key]++
	return s
}

func orDefault(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return n
}

func (g *Guard) heaviest() string {
	best, most := "", 0
	for key, n := range g.per {
		if n > most {
			best, most = key, n
		}
	}
	return best
}

// evict closes the connection of key that has been idle longest.
func (g *Guard) evict(key string) bool {
	var oldest *Slot
	for s := range g.slots {
		if s.key == key && s.doing != busy && (oldest == nil || s.since.Before(oldest.since)) {
			oldest = s
		}
	}
	if oldest == nil {
		return false
	}
	g.remove(oldest)
	_ = oldest.conn.Close()
	return true
}

func (g *Guard) remove(s *Slot) {
	if s.gone {
		return
	}
	s.gone = true
	delete(g.slots, s)
	if g.per[s.key]--; g.per[s.key] == 0 {
		delete(g.per, s.key)
	}
}

// Len returns the number of slots in use.
func (g *Guard) Len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.slots)
}

// CloseAll closes every connection, idle or not.
func (g *Guard) CloseAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for s := range g.slots {
		_ = s.conn.Close()
	}
}

// Drain closes connections when they are or become idle, and after the grace period
// those that are still busy.
func (g *Guard) Drain(grace time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.draining {
		return
	}
	g.draining = true
	for s := range g.slots {
		if s.doing == idle {
			_ = s.conn.Close()
		}
	}
	time.AfterFunc(grace, g.CloseAll)
}

// Busy marks the connection as busy: it keeps its slot.
func (s *Slot) Busy() { s.set(busy) }

// Idle marks the connection as between two requests.
func (s *Slot) Idle() { s.set(idle) }

// Waiting marks the connection as waiting, from now on, for its peer to send the rest of
// a request or to receive an answer: it may lose its slot, but [Guard.Drain] gives the
// peer the grace period.
func (s *Slot) Waiting() { s.set(waiting) }

func (s *Slot) set(now doing) {
	s.guard.mu.Lock()
	defer s.guard.mu.Unlock()
	s.doing, s.since = now, time.Now()
	if s.guard.draining && now == idle {
		_ = s.conn.Close()
	}
}

// Release frees the slot; a second call does nothing.
func (s *Slot) Release() {
	s.guard.mu.Lock()
	defer s.guard.mu.Unlock()
	s.guard.remove(s)
}

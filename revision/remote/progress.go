package remote

import (
	"sync"
	"time"
)

// Phase is the phase of a transfer that an [Event] belongs to.
type Phase string

// The phases of a transfer, in order.
const (
	PhaseInfo     Phase = "info"     // the descriptor of the repository
	PhaseState    Phase = "state"    // the state of the repository
	PhaseObject   Phase = "object"   // the location of an object's content
	PhaseAnnounce Phase = "announce" // an object that may be new to the remote
	PhaseDownload Phase = "download"
	PhaseUpload   Phase = "upload"
	PhasePost     Phase = "post" // the state
)

// Status is the result of the operation that an [Event] reports.
type Status string

// The results, as they are shown; Running is empty.
const (
	Running     Status = ""
	OK          Status = "OK"
	OKDuplicate Status = "OK - Dupe" // announced before under another path
	OKCached    Status = "OK cache"  // already present, needs no transfer
	Linked      Status = "LK"        // of another owner, needs no upload
	Failed      Status = "ERROR"
)

// Event reports the progress of a transfer. Sizes are in bytes.
type Event struct {
	Phase  Phase
	Status Status
	Path   string // in the state
	Name   string // the remote's name of an object
	Sum    string
	Err    error // of Failed

	Done, Total       int64 // of this object
	AllDone, AllTotal int64 // of all objects of this phase; resumed bytes count as done
	Rate              float64
}

// Remaining estimates how long the phase will take; false when it is unknown.
func (e Event) Remaining() (time.Duration, bool) {
	if e.Rate <= 0 || e.AllTotal < e.AllDone {
		return 0, false
	}
	return time.Duration(float64(e.AllTotal-e.AllDone) / e.Rate * float64(time.Second)), true
}

// tell passes on an event, one at a time.
func (c *Client) tell(e Event) {
	c.progressMu.Lock()
	defer c.progressMu.Unlock()
	c.opt.Progress(e)
}

// result reports the end of an operation and returns its error.
func (c *Client) result(e Event, err error) error {
	e.Status = OK
	if err != nil {
		e.Status, e.Err = Failed, err
	}
	c.tell(e)
	return err
}

// meter counts the bytes that all objects of one phase move.
type meter struct {
	c     *Client
	phase Phase

	mu    sync.Mutex
	done  int64
	total int64
	start time.Time
	moved int64 // in this run, for the rate
	last  time.Time
}

// step is the least time between two events of running transfers.
const step = 100 * time.Millisecond

func (c *Client) meter(phase Phase, total int64) *meter {
	return &meter{c: c, phase: phase, total: total, start: time.Now()}
}

// bar counts the bytes of one object.
type bar struct {
	m    *meter
	e    Event
	done int64
	try  int // number of the attempt that counts
}

func (m *meter) bar(path, name, sum string, size int64) *bar {
	return &bar{m: m, e: Event{Phase: m.phase, Path: path, Name: name, Sum: sum, Total: size}}
}

// set records the bytes that are present without a transfer, when an attempt begins or
// resumes. It returns the number of that attempt.
func (b *bar) set(done int64) (try int) {
	b.m.mu.Lock()
	defer b.m.mu.Unlock()
	b.m.done += done - b.done
	b.done = done
	b.try++
	return b.try
}

// moved counts transferred bytes. Those of an abandoned attempt, which the transport may
// still be reading, do not count.
func (b *bar) moved(try, n int) {
	e, due := b.count(try, int64(n))
	if due {
		b.m.c.tell(e)
	}
}

func (b *bar) count(try int, n int64) (e Event, due bool) {
	m := b.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if try != b.try {
		return e, false
	}
	b.done += n
	m.done += n
	m.moved += n
	now := time.Now()
	if now.Sub(m.last) < step {
		return e, false
	}
	m.last = now
	return m.event(b, now), true
}

func (m *meter) event(b *bar, now time.Time) Event {
	e := b.e
	e.Done, e.AllDone, e.AllTotal = b.done, m.done, m.total
	if d := now.Sub(m.start).Seconds(); d > 0 {
		e.Rate = float64(m.moved) / d
	}
	return e
}

// end reports how the object's transfer ended.
func (b *bar) end(status Status, err error) {
	b.m.mu.Lock()
	e := b.m.event(b, time.Now())
	b.m.mu.Unlock()
	e.Status, e.Err = status, err
	b.m.c.tell(e)
}

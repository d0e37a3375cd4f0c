package build

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// meter divides the CPU time of the process and its children among the running steps. The
// kernel does not know which step a goroutine works for, so steps that run at the same
// time get equal shares; the sum is exact.
type meter struct {
	mu      sync.Mutex
	last    time.Duration
	running map[*usage]struct{}
}

type usage struct {
	meter *meter
	spent time.Duration
}

func (m *meter) begin() *usage {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.share()
	if m.running == nil {
		m.running = map[*usage]struct{}{}
	}
	u := &usage{meter: m}
	m.running[u] = struct{}{}
	return u
}

func (u *usage) end() time.Duration {
	u.meter.mu.Lock()
	defer u.meter.mu.Unlock()
	u.meter.share()
	delete(u.meter.running, u)
	return u.spent
}

// share credits the CPU time since the last call to the steps that ran.
func (m *meter) share() {
	now := cpuTime()
	used := now - m.last
	m.last = now
	for u := range m.running {
		u.spent += used / time.Duration(len(m.running))
	}
}

// cpuTime returns the CPU time of the process and of the children it has waited for.
func cpuTime() time.Duration {
	var sum time.Duration
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var ru unix.Rusage
		if unix.Getrusage(who, &ru) == nil {
			sum += time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
		}
	}
	return sum
}

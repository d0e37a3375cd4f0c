package ctrl

import (
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
)

// A state is in memory while it is sent, and takes several times its size while it is
// checked.
const (
	maxSteps    = 4        // states in hand at once; one of them may be larger than smallState
	smallState  = 16 << 20 // bytes of a state for which there is always memory
	stateFactor = 8        // part of the free memory that a larger state may have
)

// room is the memory for the states in hand.
type room struct {
	mu    sync.Mutex
	steps int
	large bool         // one of them is larger than smallState
	free  func() int64 // returns the bytes of free memory; nil asks the kernel
}

// take reserves room for a state of so many bytes, -1 for one of up to smallState. An error
// is an [api.Error]: the state is larger than any may be ([canon.MaxSize], as where states
// are written), larger than the memory allows, or too much beside the others.
func (r *room) take(size int64) (release func(), err error) {
	large := size > smallState
	if err := r.fits(size); large && err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.steps >= maxSteps || large && r.large {
		return nil, &api.Error{Status: 503, Text: textManySteps, RetryAfter: 1}
	}
	r.steps++
	r.large = r.large || large
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.steps--
		r.large = r.large && !large
	}, nil
}

// fits returns an error for a state that no room can be made for.
func (r *room) fits(size int64) error {
	if size > canon.MaxSize {
		return &api.Error{Status: 413, Text: fmt.Sprintf("A state of %d bytes is too large: at most %d are allowed", size, canon.MaxSize)}
	}
	free := r.free
	if free == nil {
		free = FreeMemory
	}
	if most := max(free()/stateFactor, smallState); size > most {
		return &api.Error{Status: 507, Text: fmt.Sprintf("Not enough memory for a state of %d bytes: at most %d fit now", size, most)}
	}
	return nil
}

// FreeMemory returns MemAvailable of /proc/meminfo (proc(5)) in bytes, 0 without one.
func FreeMemory() int64 {
	text, err := bounded.ReadFile("/proc/meminfo", 64<<10)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "MemAvailable:" {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n << 10
		}
	}
	return 0
}

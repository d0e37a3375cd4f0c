package logs

import (
	"fmt"
	"io"
	"sync"
)

// maxPrint is how many bytes wait for a slow console.
const maxPrint = 64 << 10

// printer writes to standard output in its own goroutine: the console may be a slow
// serial line, which must not delay the files.
type printer struct {
	out     io.Writer
	mu      sync.Mutex
	more    sync.Cond
	idle    sync.Cond
	pending []byte
	spare   []byte
	lost    int
	busy    bool
	closed  bool
}

func newPrinter(out io.Writer) *printer {
	p := &printer{out: out}
	p.more.L, p.idle.L = &p.mu, &p.mu
	go p.run()
	return p
}

// print queues one line, or counts it as lost.
func (p *printer) print(line []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	if len(p.pending)+len(line) > maxPrint {
		p.lost++
		return
	}
	if p.lost > 0 {
		p.pending = fmt.Appendf(p.pending, "-- %d lines lost: the console is too slow --\n", p.lost)
		p.lost = 0
	}
	p.pending = append(p.pending, line...)
	p.more.Signal()
}

func (p *printer) run() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		for len(p.pending) == 0 && !p.closed {
			p.busy = false
			p.idle.Broadcast()
			p.more.Wait()
		}
		if len(p.pending) == 0 {
			p.busy = false
			p.idle.Broadcast()
			return
		}
		p.busy = true
		work := p.pending
		p.pending = p.spare[:0]
		p.mu.Unlock()
		_, _ = p.out.Write(work)
		p.mu.Lock()
		p.spare = work[:0]
	}
}

// drain waits until everything is printed.
func (p *printer) drain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.pending) > 0 || p.busy {
		p.idle.Wait()
	}
}

// close prints pending lines and stops.
func (p *printer) close() {
	p.mu.Lock()
	p.closed = true
	p.more.Signal()
	p.mu.Unlock()
	p.drain()
}

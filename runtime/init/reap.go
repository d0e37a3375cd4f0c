package init

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/shell"
)

// A reaper waits for every process that ends below process 1: those that it
// started, and the orphans that the kernel hands to process 1.
type reaper struct {
	mu      sync.Mutex
	waiting map[int]chan syscall.WaitStatus
	none    chan struct{} // closed and made anew whenever no child is left
}

var _ shell.Spawner = (*reaper)(nil)

func newReaper() *reaper {
	return &reaper{waiting: map[int]chan syscall.WaitStatus{}, none: make(chan struct{})}
}

// startReaping begins to reap.
func (m *machine) startReaping(context.Context) error {
	m.reaper = newReaper()
	died := make(chan os.Signal, 1)
	signal.Notify(died, unix.SIGCHLD)
	m.background("reaper", func() error {
		m.reaper.run(died)
		return nil
	})
	return nil
}

func (r *reaper) run(died <-chan os.Signal) {
	for r.collect(); ; r.collect() {
		<-died
	}
}

// collect takes every process that has ended and tells who waits for it.
func (r *reaper) collect() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG|unix.WALL, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.ECHILD):
			close(r.none)
			r.none = make(chan struct{})
			return
		case err != nil || pid == 0:
			return
		default:
			if done := r.waiting[pid]; done != nil {
				done <- status
				delete(r.waiting, pid)
			}
		}
	}
}

// Spawn starts a process; done gets its status when it has ended. It cannot end
// unseen: nothing is collected before its number is known.
func (r *reaper) Spawn(path string, argv []string, attr *syscall.ProcAttr) (pid int, done <-chan syscall.WaitStatus, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err = syscall.ForkExec(path, argv, attr)
	if err != nil {
		return 0, nil, fmt.Errorf("starting %s: %w", path, err)
	}
	ch := make(chan syscall.WaitStatus, 1)
	r.waiting[pid] = ch
	return pid, ch, nil
}

// alone returns a channel that closes as soon as process 1 has no child.
func (r *reaper) alone() <-chan struct{} {
	r.mu.Lock()
	none := r.none
	r.mu.Unlock()
	r.collect() // the last one may have gone already
	return none
}

// describe says how a process ended.
func describe(ws syscall.WaitStatus) string {
	switch {
	case ws.Signaled() && ws.CoreDump():
		return fmt.Sprintf("killed by signal %d (%v, core dumped)", ws.Signal(), ws.Signal())
	case ws.Signaled():
		return fmt.Sprintf("killed by signal %d (%v)", ws.Signal(), ws.Signal())
	}
	return fmt.Sprintf("exit code %d", ws.ExitStatus())
}

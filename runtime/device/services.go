package device

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/engine"
	"github.com/pantavisor/pantavisor/runtime/handoff"
	"github.com/pantavisor/pantavisor/runtime/logs"
)

// services are goroutines that run until ctx ends; their errors are logged.
type services struct {
	ctx context.Context
	run string // the directory of the sockets
	log logs.Logger
	wg  sync.WaitGroup
}

// listen makes a socket in the run directory at once, so that containers can mount it,
// and serves it in the background.
func (s *services) listen(name, file string, open func(path string) (func(context.Context) error, error)) {
	serve, err := open(filepath.Join(s.run, file))
	if err != nil {
		s.log.Errorf("%s: %v", name, err)
		return
	}
	s.start(name, serve)
}

// start runs a service.
func (s *services) start(name string, run func(ctx context.Context) error) {
	s.wg.Go(func() {
		if err := run(s.ctx); err != nil && !errors.Is(err, context.Canceled) {
			s.log.Errorf("%s: %v", name, err)
		}
	})
}

// wait waits until all services have ended.
func (s *services) wait() { s.wg.Wait() }

// onSignals turns SIGTERM into a reboot and SIGINT into a power-off.
func onSignals(e *engine.Engine) (stop func()) {
	c := make(chan os.Signal, 4)
	signal.Notify(c, unix.SIGTERM, unix.SIGINT)
	go func() {
		for sig := range c {
			code, name := handoff.ExitReboot, "SIGTERM"
			if sig == unix.SIGINT {
				code, name = handoff.ExitPowerOff, "SIGINT"
			}
			_ = e.Stop(code, "the signal "+name) // it may be stopping already
		}
	}()
	return func() {
		signal.Stop(c)
		close(c)
	}
}

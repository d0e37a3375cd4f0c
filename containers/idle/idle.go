// Package idle is the first process of a container that has nothing to run: it collects
// ended processes until it is told to stop, and can say that the container is ready.
package idle

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/containers/control"
)

// Collect waits for processes that have ended, those without a parent too, until ctx ends.
// Only the first process of a container gets them.
func Collect(ctx context.Context) {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	defer signal.Stop(ended)
	for {
		for {
			if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); pid <= 0 && err != unix.EINTR {
				break
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ended:
		}
	}
}

// pauses between attempts to signal.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 10 * time.Second
)

// SignalReady tells the runtime that this container is ready. It tries again until the
// runtime accepts that, which it does once it has seen the container start, or until ctx
// ends.
func SignalReady(ctx context.Context, socket string) error {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := control.Send(ctx, socket, "POST", "/signal", []byte(`{"type":"ready","payload":""}`))
		if err == nil {
			return nil
		}
		log.Printf("%v; next attempt in %v", err, pause)
		select {
		case <-ctx.Done():
			return fmt.Errorf("signalling that the container is ready: %w", ctx.Err())
		case <-time.After(pause):
		}
	}
}

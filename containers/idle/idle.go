// Package idle is the first process of a container that has nothing to run: it collects
// ended processes until it is told to stop, and can say that the container is ready.
package idle

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/ctrl/client"
)

// Socket is the runtime's control socket in a container.
const Socket = "/pantavisor/pv-ctrl"

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
	c := &client.Client{Socket: socket, Timeout: 10 * time.Second, Connect: 10 * time.Second}
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := ready(ctx, c)
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

func ready(ctx context.Context, c *client.Client) error {
	const body = `{"type":"ready","payload":""}`
	answer, err := c.Do(ctx, &client.Request{Method: "POST", Path: "/signal", Body: strings.NewReader(body), Size: int64(len(body))})
	if err != nil {
		return err
	}
	defer answer.Close()
	if answer.Status == 200 {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(answer, 512))
	if err != nil {
		return fmt.Errorf("reading the runtime's answer: %w", err)
	}
	return fmt.Errorf("the runtime answers %d %s", answer.Status, strings.TrimSpace(string(text)))
}

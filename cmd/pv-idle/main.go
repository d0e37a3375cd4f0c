// Command pv-idle is the first process of containers that have nothing to run; see
// package containers/idle. It ends on SIGTERM, SIGINT or SIGPWR.
package main

import (
	"context"
	"flag"
	"log"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/containers/control"
	"github.com/pantavisor/pantavisor/containers/idle"
)

func main() {
	log.SetFlags(0)
	if err := run(os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(args []string) error {
	set := flag.NewFlagSet("pv-idle", flag.ContinueOnError)
	after := set.Duration("ready-after", -1, "signal that the container is ready after this `time`, 5s for example; negative: never")
	if err := set.Parse(args); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT, unix.SIGPWR)
	defer stop()
	if *after >= 0 {
		go signalReady(ctx, *after)
	}
	idle.Collect(ctx)
	return nil
}

func signalReady(ctx context.Context, after time.Duration) {
	select {
	case <-ctx.Done():
		return
	case <-time.After(after):
	}
	if err := idle.SignalReady(ctx, control.Socket); err != nil {
		log.Print(err)
		return
	}
	log.Print("signalled that this container is ready")
}

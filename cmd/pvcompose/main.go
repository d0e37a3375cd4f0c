// Command pvcompose composes firmware from an explicit list of inputs: kernel, root file systems
// and all else as files that were built elsewhere (docs/compose.md). It is the composer of
// mage build as a program of its own.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// memory is where the garbage collector begins to work harder, in bytes.
const memory = 48 << 20

func main() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memory)
	}
	ctx, end := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := Run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	end()
	os.Exit(code)
}

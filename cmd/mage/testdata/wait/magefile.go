//go:build mage

// Commands for the test of signals.
package main

import (
	"context"
	"fmt"

	"github.com/magefile/mage/mg"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/workspace"
)

func init() { workspace.CancelOnTerminate() }

// Wait says that it waits, until it is cancelled.
func Wait(ctx context.Context) error {
	fmt.Println("waiting")
	<-ctx.Done()
	fmt.Println("cleaned up")
	return mg.Fatal(int(fault.Of(ctx.Err())), ctx.Err())
}

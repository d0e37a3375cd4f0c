// Package command runs a helper program and returns its output in the error when it
// fails.
package command

import (
	"context"
	"os/exec"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// Run runs a prepared command and waits. The end of its output, including standard output
// unless cmd.Stdout is set, is in the error when it fails and is discarded otherwise. The
// kind is NoSpace for a full file system, Cancelled when ctx has ended, else IO.
func Run(ctx context.Context, cmd *exec.Cmd, name string) error {
	var said tail
	if cmd.Stdout == nil {
		cmd.Stdout = &said
	}
	cmd.Stderr = &said
	err := cmd.Run()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fault.Wrap(fault.Cancelled, ctx.Err(), "running %s", name)
	}
	k := fault.IO
	if strings.Contains(said.String(), "No space left") {
		k = fault.NoSpace
	}
	return fault.Wrap(k, err, "running %s: %s", name, strings.TrimSpace(said.String()))
}

// tail keeps the last bytes written to it.
type tail struct{ b []byte }

const tailSize = 1 << 11

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if over := len(t.b) - tailSize; over > 0 {
		t.b = t.b[over:]
	}
	return len(p), nil
}

func (t *tail) String() string { return string(t.b) }

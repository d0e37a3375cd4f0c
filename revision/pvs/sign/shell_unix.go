//go:build unix

package sign

import (
	"context"
	"os/exec"
)

// shell returns the command for a line of the shell.
func shell(ctx context.Context, line string) *exec.Cmd {
	return exec.CommandContext(ctx, "/bin/sh", "-c", line)
}

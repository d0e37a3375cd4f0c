package sign

import (
	"context"
	"os/exec"
	"syscall"
)

// shell returns the command for a line of cmd.exe, which takes quotes as they stand.
func shell(ctx context.Context, line string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "cmd.exe")
	cmd.SysProcAttr = &syscall.SysProcAttr{CmdLine: `cmd.exe /S /C "` + line + `"`}
	return cmd
}

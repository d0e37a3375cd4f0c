package dist

import (
	"context"
	"errors"
	"os"
	"os/exec"
)

// complete writes the completion script that the tool prints for a shell.
func complete(ctx context.Context, program, shell, to, home string) (err error) {
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	cmd := exec.CommandContext(ctx, program, "completion", shell)
	cmd.Env = []string{"HOME=" + home} // its settings are those of nobody
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	return cmd.Run()
}

package devices

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// secrets are the variables of a pipeline that no build needs.
var secrets = []string{envPassword, envGitToken, envDeployToken, "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}

// buildEnvironment is the environment of a build: what the build's options do not say is the
// recipe as reference device, the tag as version, and that nobody can be asked.
func (p *promotion) buildEnvironment(b *Build, reference string) ([]string, error) {
	env := slices.DeleteFunc(slices.Clone(p.Env), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains(secrets, name)
	})
	env = append(env, "PVR_MERGE_SRC="+reference, "PV_VERSION="+p.tag, "PV_BUILD_INTERACTIVE=false")
	options, err := b.settings()
	return append(env, options...), err
}

// patience is how long a program that is cancelled may take to end.
const patience = 30 * time.Second

// mage runs mage build of a target.
func (p *promotion) mage(ctx context.Context, b *Build, target, dir, reference string) error {
	env, err := p.buildEnvironment(b, reference)
	if err != nil {
		return err
	}
	words := append(slices.Clone(p.words), "build", target, "--out="+dir)
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Dir, cmd.Env = p.Dir, env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // go tool mage is several processes, and starts compilers
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = patience
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(r); lines.Scan(); {
			p.say("%s", lines.Text())
		}
		_, _ = io.Copy(io.Discard, r) // behind a line that is too long
	}()
	err = cmd.Run()
	_ = w.Close() // never fails
	<-done
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fault.Wrap(fault.Cancelled, ctx.Err(), "building %s", target)
	case errors.Is(err, exec.ErrNotFound):
		return fault.Wrap(fault.Missing, err, "building %s: --mage names the command that builds", target)
	case errors.As(err, &exit) && isKind(exit.ExitCode()): // mage's own
		return fault.Wrap(fault.Kind(exit.ExitCode()), err, "building %s with %s", target, strings.Join(words, " "))
	}
	return fault.Wrap(fault.Internal, err, "building %s with %s", target, strings.Join(words, " "))
}

// isKind reports whether an exit code is that of a kind of errors (docs/exit-codes.md); a program that
// a signal ended has others.
func isKind(code int) bool {
	return code > int(fault.Internal) && code <= int(fault.Vulnerable) || code == int(fault.Cancelled)
}

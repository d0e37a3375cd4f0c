package containers

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// shortRev is the length of the abbreviated commit in a build version. Git's own choice depends on how many
// objects a clone has.
const shortRev = 7

// buildVersion returns 0-COUNT-gREV of a repository: how many commits HEAD has, and which it is.
func buildVersion(ctx context.Context, dir string) (string, error) {
	const otherwise = "set BUILD_VERSION, or --build-version"
	shallow, err := git(ctx, dir, "rev-parse", "--is-shallow-repository")
	if err != nil {
		return "", fault.Wrap(fault.Missing, err, "looking for the build version (%s, outside of a repository)", otherwise)
	}
	if shallow == "true" {
		return "", fault.New(fault.BadInput, "looking for the build version: the clone is shallow, so that its commits cannot be counted; "+
			"fetch all (GitLab: GIT_DEPTH: 0; GitHub: fetch-depth: 0; git fetch --unshallow), or %s", otherwise)
	}
	count, err := git(ctx, dir, "rev-list", "--count", "HEAD")
	if err != nil {
		return "", fault.Wrap(fault.Missing, err, "counting the commits (%s, in a repository without commits)", otherwise)
	}
	rev, err := git(ctx, dir, "rev-parse", "HEAD")
	if err != nil {
		return "", fault.Wrap(fault.Missing, err, "looking for the commit")
	}
	return "0-" + count + "-g" + rev[:min(shortRev, len(rev))], nil
}

// sourceTime returns the time of what is made: that of SOURCE_DATE_EPOCH, else that of the commit, else 1970.
func sourceTime(ctx context.Context, dir, epoch string) (time.Time, error) {
	if epoch != "" {
		n, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil || n < 0 || n > 1<<33-1 { // what tar has room for
			return time.Time{}, fault.New(fault.BadInput, "SOURCE_DATE_EPOCH=%s: seconds since 1970 are expected", epoch)
		}
		return time.Unix(n, 0).UTC(), nil
	}
	text, err := git(ctx, dir, "log", "-1", "--format=%ct")
	if err != nil {
		return time.Unix(0, 0).UTC(), ctx.Err() // without a commit
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return time.Unix(max(n, 0), 0).UTC(), fault.Wrap(fault.Internal, err, "reading the time of the commit")
}

// git runs the program of that name and returns what it prints.
func git(ctx context.Context, dir string, args ...string) (string, error) {
	var out, said bytes.Buffer
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case errors.As(err, &exit):
		return "", fault.New(fault.Missing, "git %s: %.500s", args[0], strings.TrimSpace(said.String()))
	case err != nil:
		return "", fault.Wrap(fault.Missing, err, "running git")
	}
	return strings.TrimSpace(out.String()), nil
}

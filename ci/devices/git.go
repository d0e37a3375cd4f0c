package devices

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// Environment variables of the account that commits (manual: Update CI Reference), and of GitLab
// and GitHub for the branch of a pipeline, which has a commit checked out and no branch.
const (
	envEmail       = "PH_CIBOT_EMAIL"
	envGitUser     = "PH_CIBOT_GITLAB_USER"
	envGitToken    = "PH_CIBOT_GITLAB_TOKEN"
	envBranch      = "CI_COMMIT_BRANCH"
	envDefault     = "CI_DEFAULT_BRANCH"
	envJobToken    = "CI_JOB_TOKEN"
	envGitHubRef   = "GITHUB_REF_NAME"
	envGitHubKind  = "GITHUB_REF_TYPE"
	gitHubBranches = "branch"
)

// git runs the git program in the project.
type git struct {
	dir string
	env environment
}

// helper gives git the account. The words name variables, which git's shell looks up; no argument
// and no file has their values.
const helper = `!f() { echo "username=${` + envGitUser + `:-oauth2}"; echo "password=$` + envGitToken + `"; }; f`

// run runs git and returns what it printed.
func (g *git) run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = g.dir
	// Killed, it would leave the locks of its files, which no later run may remove.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = patience
	cmd.Env = append(append([]string(nil), g.env...), "GIT_TERMINAL_PROMPT=0", "LC_ALL=C")
	if g.env.get(envGitToken) != "" {
		// An empty helper drops those of the machine, which would store the token.
		cmd.Env = append(cmd.Env, "GIT_CONFIG_COUNT=2",
			"GIT_CONFIG_KEY_0=credential.helper", "GIT_CONFIG_VALUE_0=", "GIT_CONFIG_KEY_1=credential.helper", "GIT_CONFIG_VALUE_1="+helper)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	switch {
	case err == nil:
		return strings.TrimSpace(stdout.String()), nil
	case ctx.Err() != nil:
		return "", fault.Wrap(fault.Cancelled, ctx.Err(), "running git %s", args[0])
	case errors.Is(err, exec.ErrNotFound):
		return "", fault.Wrap(fault.Missing, err, "running git")
	}
	said := g.mask(strings.TrimSpace(stderr.String()))
	return "", fault.New(gitKind(said), "running git %s: %s: %w", args[0], said, err)
}

// mask replaces the values of secrets in what a program has said.
func (g *git) mask(text string) string {
	for _, name := range append([]string{envJobToken}, secrets...) {
		if value := g.env.get(name); value != "" {
			text = strings.ReplaceAll(text, value, "[MASKED]")
		}
	}
	return text
}

// origin returns what git is to fetch from and push to. The address of GitLab's clones has the account
// of the job, which may not push: where there is another one, that is left out.
func (g *git) origin(ctx context.Context) (string, error) {
	if g.env.get(envGitToken) == "" {
		return "origin", nil
	}
	address, err := g.run(ctx, "remote", "get-url", "origin")
	if err != nil {
		return "", err
	}
	u, err := url.Parse(address)
	if err != nil || u.User == nil || u.Scheme != "https" && u.Scheme != "http" {
		return "origin", nil
	}
	u.User = nil
	return u.String(), nil
}

// gitKind is the kind of git's error message.
func gitKind(said string) fault.Kind {
	for text, kind := range map[string]fault.Kind{
		"not a git repository": fault.BadInput, "Authentication failed": fault.BadInput, "could not read": fault.BadInput,
		"unable to access": fault.Unreachable, "Could not resolve": fault.Unreachable, "Permission denied": fault.BadInput,
	} {
		if strings.Contains(said, text) {
			return kind
		}
	}
	return fault.IO
}

// author are the variables of who commits.
func (g *git) author() (*git, error) {
	email := g.env.get(envEmail)
	if email == "" {
		return nil, fault.New(fault.BadInput, "the variable %s, the address that the commits of recipes have, is not set", envEmail)
	}
	name := g.env.get(envGitUser)
	if name == "" {
		name, _, _ = strings.Cut(email, "@")
	}
	who := []string{"GIT_AUTHOR_NAME=" + name, "GIT_COMMITTER_NAME=" + name, "GIT_AUTHOR_EMAIL=" + email, "GIT_COMMITTER_EMAIL=" + email}
	return &git{g.dir, append(append(environment(nil), g.env...), who...)}, nil
}

// branch returns the branch that recipes are committed to.
func (g *git) branch(ctx context.Context) (string, error) {
	name := g.env.get(envBranch)
	if name == "" && g.env.get(envGitHubKind) == gitHubBranches {
		name = g.env.get(envGitHubRef)
	}
	if name == "" {
		name, _ = g.run(ctx, "symbolic-ref", "--short", "--quiet", "HEAD")
	}
	if name == "" {
		name = g.env.get(envDefault)
	}
	if name == "" {
		return "", fault.New(fault.BadInput, "no branch is checked out, to which the recipes could be committed; %s names it", envBranch)
	}
	if _, err := g.run(ctx, "check-ref-format", "--branch", name); err != nil {
		return "", fault.New(fault.BadInput, "%q is not a valid name of a branch", name)
	}
	return name, nil
}

// file returns a file of a commit by its path below the project; nil when the commit has none.
func (g *git) file(ctx context.Context, commit, name string) ([]byte, error) {
	there, err := g.run(ctx, "ls-tree", "--name-only", commit, "--", name)
	if err != nil || there == "" {
		return nil, err
	}
	text, err := g.run(ctx, "show", commit+":./"+name)
	return []byte(text), err
}

// head returns the commit that is checked out; "" in a repository without commits.
func (g *git) head(ctx context.Context) string {
	id, err := g.run(ctx, "rev-parse", "--quiet", "--verify", "HEAD^{commit}")
	if err != nil {
		return ""
	}
	return id
}

// commit commits what differs below recipes/. It reports whether there was anything.
func (g *git) commit(ctx context.Context, message string) (bool, error) {
	changed, err := g.run(ctx, "status", "--porcelain", "--untracked-files=all", "--", recipesName)
	if err != nil || changed == "" {
		return false, err
	}
	as, err := g.author()
	if err != nil {
		return false, err
	}
	if _, err := as.run(ctx, "add", "--", recipesName); err != nil {
		return false, err
	}
	_, err = as.run(ctx, "commit", "--quiet", "--message", message, "--", recipesName)
	return err == nil, err
}

// pushes is how often a push is tried that others are faster than.
const pushes = 5

// push sends the commits to the branch of origin, over commits that others made meanwhile. It
// reports whether there were any to send. A project without an origin keeps them.
func (g *git) push(ctx context.Context) (bool, error) {
	if remotes, err := g.run(ctx, "remote"); err != nil || !strings.Contains("\n"+remotes+"\n", "\norigin\n") {
		return false, err
	}
	branch, err := g.branch(ctx)
	if err != nil {
		return false, err
	}
	origin, err := g.origin(ctx)
	if err != nil {
		return false, err
	}
	for range pushes {
		if _, err = g.run(ctx, "fetch", "--quiet", origin, "+refs/heads/"+branch+":refs/remotes/origin/"+branch); err != nil && !strings.Contains(err.Error(), "couldn't find remote ref") {
			return false, err
		}
		if err == nil {
			ahead, err := g.ahead(ctx, branch)
			if err != nil || !ahead {
				return false, err
			}
		}
		if _, err = g.run(ctx, "push", "--quiet", origin, "HEAD:refs/heads/"+branch); err == nil {
			return true, nil
		}
		if !strings.Contains(err.Error(), "fetch first") && !strings.Contains(err.Error(), "non-fast-forward") && !strings.Contains(err.Error(), "cannot lock ref") {
			return false, err
		}
	}
	return false, err
}

// ahead puts the own commits on top of the branch of origin and reports whether there are any.
func (g *git) ahead(ctx context.Context, branch string) (bool, error) {
	to := "refs/remotes/origin/" + branch
	count, err := g.run(ctx, "rev-list", "--count", to+"..HEAD")
	if err != nil || count == "0" {
		return false, err
	}
	as, err := g.author()
	if err != nil {
		return false, err
	}
	if _, err := as.run(ctx, "rebase", "--quiet", to); err != nil {
		_, abort := as.run(context.WithoutCancel(ctx), "rebase", "--abort")
		return false, errors.Join(fmt.Errorf("putting the recipes on top of what others committed to %s: %w; run the command again in a fresh clone", branch, err), abort)
	}
	return true, nil
}

// isProject returns an error for a directory outside a working tree of git.
func (g *git) isProject(ctx context.Context) error {
	if _, err := os.Stat(g.dir); err != nil {
		return fault.Wrap(fault.Missing, err, "looking for the project")
	}
	_, err := g.run(ctx, "rev-parse", "--show-toplevel")
	return err
}

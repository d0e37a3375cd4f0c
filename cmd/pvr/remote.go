package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/remote"
	"github.com/pantavisor/pantavisor/revision/repo"
	"github.com/pantavisor/pantavisor/revision/state"
)

// client returns what speaks with remotes; there is one for all of a command.
func (t *tool) client() (*remote.Client, error) {
	opt := remote.Options{
		BaseURL: t.baseURL, RepoBaseURL: t.repoBaseURL, ConfigDir: t.configDir, AccessToken: t.token,
		Proxy: t.httpProxy, Insecure: t.insecure, UserAgent: "pvr/" + versionText(),
		Credentials: t.credentials,
		Progress:    t.progress(),
		Warn:        func(err error) { fmt.Fprintf(t.stderr, "WARNING: %v\n", err) },
	}
	if t.debug {
		opt.Debug = t.stderr
	}
	return remote.New(opt)
}

// credentials asks the user for a name and password, on a terminal.
func (t *tool) credentials(_ context.Context, c remote.Challenge) (remote.Credentials, error) {
	var who remote.Credentials
	in, ok := t.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return who, remote.ErrAuth
	}
	fmt.Fprintf(t.stderr, "*** Login (/type [R] to register) @ %s (realm=%s) ***\nUsername: ", c.Endpoint, c.Realm)
	if _, err := fmt.Fscanln(in, &who.Username); err != nil {
		return who, fmt.Errorf("reading the user's name: %w", err)
	}
	if who.Username == "R" || who.Username == "/R" {
		return who, errors.New("run pvr register to make an account")
	}
	fmt.Fprint(t.stderr, "Password: ")
	password, err := term.ReadPassword(int(in.Fd()))
	fmt.Fprintln(t.stderr)
	who.Password = string(password)
	return who, err
}

// eventLines are the lines for what is done, by phase.
var eventLines = map[remote.Phase]string{
	remote.PhaseInfo:     "Getting remote repository info ... [%[2]s]",
	remote.PhaseAnnounce: "Posting object info for: %[1]s ...  [%[2]s]",
	remote.PhaseDownload: "%.15[1]s [%[2]s]",
	remote.PhaseUpload:   "%.12[1]s [%[2]s]",
}

// progress tells how transfers go: one line for each thing done, and on a terminal
// a bar with rate and remaining time below them.
func (t *tool) progress() func(remote.Event) {
	var shown time.Time
	return func(e remote.Event) {
		line, ok := eventLines[e.Phase]
		switch {
		case e.Status != remote.Running && ok:
			if t.terminal != nil {
				fmt.Fprint(t.terminal, "\r\x1b[K")
			}
			fmt.Fprintf(t.stderr, line+"\n", e.Path, e.Status)
		case t.terminal != nil && e.AllTotal > 0 && time.Since(shown) > 100*time.Millisecond:
			shown = time.Now()
			fmt.Fprint(t.terminal, "\r\x1b[K"+bar(e))
		}
	}
}

const barWidth = 30

// bar draws a line of progress.
func bar(e remote.Event) string {
	full := int(barWidth * e.AllDone / e.AllTotal)
	full = min(max(full, 0), barWidth)
	left := ""
	if d, ok := e.Remaining(); ok {
		left = d.Round(time.Second).String() + " left"
	}
	return fmt.Sprintf("[%s%s] %3d%%  %.1f MB/s  %s", strings.Repeat("=", full), strings.Repeat(" ", barWidth-full),
		100*e.AllDone/e.AllTotal, e.Rate/1e6, left)
}

// far is a remote repository as a source.
type far struct {
	client *remote.Client
	ref    remote.Reference
	merge  bool
}

func (t *tool) remoteSource(ref repo.Ref) (repo.Source, error) {
	client, err := t.client()
	if err != nil {
		return nil, err
	}
	name := ref.URL
	if frag := ref.Fragment.String(); frag != "" {
		name += "#" + frag
	}
	r, err := client.Reference(name)
	if err != nil {
		return nil, err
	}
	return &far{client: client, ref: r}, nil
}

// State implements repo.Source.
func (f *far) State(ctx context.Context) (*state.State, error) {
	info, err := f.client.RemoteInfo(ctx, f.ref)
	if err != nil {
		return nil, err
	}
	return f.client.State(ctx, info)
}

// abandoned is how old an unfinished download is that nobody will go on with.
const abandoned = 14 * 24 * time.Hour

// Pull implements repo.Source.
func (f *far) Pull(ctx context.Context, dst *objects.Store, _ func(string) bool) (*repo.Pulled, error) {
	if err := remote.SweepPartials(dst, abandoned); err != nil {
		return nil, err
	}
	got, err := f.client.Get(ctx, f.ref, dst, remote.GetOptions{Merge: f.merge})
	if err != nil {
		return nil, err
	}
	return &repo.Pulled{State: got.State, Count: got.Objects}, nil
}

// noRemote returns the error for a command without a remote in a repository that
// remembers none.
func noRemote(cmd *cobra.Command, code int) error {
	return failf(code, "the repository remembers no remote yet; %s REPO names one: nick/device, a URL or the address of a device", cmd.CommandPath())
}

// destination returns a remote that is named, or that the repository remembers.
func (t *tool) destination(args []string, remembered string) (*remote.Client, remote.Reference, error) {
	name := remembered
	if len(args) > 0 {
		name = args[0]
	}
	client, err := t.client()
	if err != nil {
		return nil, remote.Reference{}, err
	}
	ref, err := client.Reference(name)
	if (err != nil || !ref.IsRemote()) && !strings.Contains(name, "/") {
		return nil, ref, failf(2, "%w", repo.ErrNick)
	}
	if err != nil {
		return nil, ref, fail(2, err)
	}
	if !ref.IsRemote() {
		return nil, ref, failf(2, "%s is a path of this machine; a URL or nick/device is expected", name)
	}
	return client, ref, nil
}

package workspace

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/build/options"
	"github.com/pantavisor/pantavisor/internal/attest"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/signing"
)

// Signing says with what results are signed: with the private key of a file, or with a program. The
// zero value signs nothing.
type Signing struct {
	// Key is the file of a private key.
	Key string
	// Command is a line of the shell with a program that signs, Public the file of its public key,
	// and Input what it reads ([signing.Program]).
	Command, Public, Input string
}

// or returns what the environment says when nothing else does.
func (s Signing) or(o *options.Options) Signing {
	if s.Key == "" && s.Command == "" {
		s.Key, s.Command = o.SignKey, o.SignCommand
	}
	if s.Command != "" {
		s.Public, s.Input = cmp.Or(s.Public, o.SignPublic), cmp.Or(s.Input, o.SignInput)
	}
	return s
}

// passphrase is that of an encrypted key.
func passphrase() (string, bool) { return os.LookupEnv("PV_SIGN_PASSPHRASE") }

// signingKey opens what signs; nil for nothing.
func (w *Workspace) signingKey(ctx context.Context) (*signing.Key, error) {
	s := w.Signing
	switch {
	case s.Key != "" && s.Command != "":
		return nil, fault.New(fault.BadInput, "signing: there are a key (--sign, PV_SIGN_KEY) and a program (--signcmd, PV_SIGN_CMD): leave out one of them")
	case s.Key != "":
		return signing.Load(w.path(s.Key), passphrase)
	case s.Command == "" && s.Public+s.Input != "":
		return nil, fault.New(fault.BadInput, "signing: --signpub and --signinput belong to --signcmd, which is not given")
	case s.Command == "":
		return nil, nil
	case s.Public == "":
		return nil, fault.New(fault.BadInput, "signing with a program wants its public key, with which each signature is verified: --signpub=FILE or PV_SIGN_PUB, a key or certificate in PEM")
	}
	public, err := signing.LoadPublic(w.path(s.Public))
	if err != nil {
		return nil, err
	}
	return signing.Command(ctx, signing.Program{Line: s.Command, Input: s.Input, Public: public, Stderr: w.Stderr})
}

// sign has a job sign what it publishes, if that is wanted.
func (w *Workspace) sign(ctx context.Context, j *job) error {
	key, err := w.signingKey(ctx)
	if err != nil || key == nil {
		return err
	}
	if key.Warning != "" {
		j.Warnings = append(j.Warnings, key.Warning)
	}
	j.Sign = func(ctx context.Context, dir string, r *build.Report) error {
		files, err := attest.Artefacts(ctx, dir, r.Artefacts)
		if err != nil {
			return err
		}
		s, err := w.statement(ctx, r, files)
		if err != nil {
			return err
		}
		r.Signed, err = attest.Sign(dir, key, files, s, w.signedName(r.Target))
		return err
	}
	return nil
}

// signedName names what is signed for people.
func (w *Workspace) signedName(target string) string {
	return strings.TrimSpace(target + " " + w.Options.Release)
}

// statement returns the provenance of files that a build has made.
func (w *Workspace) statement(ctx context.Context, r *build.Report, files []attest.File) (*attest.Statement, error) {
	sources, err := w.origins(ctx)
	if err != nil {
		return nil, err
	}
	return attest.NewStatement(r, files, attest.Origin{Sources: sources, Builder: w.Options.BuilderID, Invocation: w.Options.Pipeline.ID})
}

// origins names the source trees of a build: their commits, where they are clones, and the
// version of this module, where it is a dependency.
func (w *Workspace) origins(ctx context.Context) ([]attest.Resource, error) {
	l, err := w.Sources()
	if err != nil {
		return nil, err
	}
	var out []attest.Resource
	if r, ok := commit(ctx, l.Top().Dir); ok {
		out = append(out, r)
	} else if p := w.Options.Pipeline; p.Commit != "" {
		out = append(out, attest.Resource{Name: p.Project, Digest: map[string]string{"gitCommit": p.Commit}})
	}
	if l.Shipped().Dir == l.Top().Dir {
		return out, nil
	}
	if version := cachedVersion(l.Shipped().Dir); version != "" {
		return append(out, attest.Resource{Name: modulePath, URI: "pkg:golang/" + modulePath + "@" + version}), nil
	}
	if r, ok := commit(ctx, l.Shipped().Dir); ok {
		out = append(out, r)
	}
	return out, nil
}

// commit describes the commit of a source tree, if it is a clone of git and git is there. Changes
// that are not committed are told.
func commit(ctx context.Context, dir string) (attest.Resource, bool) {
	git := func(args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_OPTIONAL_LOCKS=0")
		out, err := cmd.Output()
		return strings.TrimSpace(string(out)), err
	}
	id, err := git("rev-parse", "--verify", "HEAD")
	if err != nil {
		return attest.Resource{}, false
	}
	r := attest.Resource{Name: "source", Digest: map[string]string{"gitCommit": id}}
	if remote, err := git("config", "--get", "remote.origin.url"); err == nil && strings.Contains(remote, "://") && !strings.HasPrefix(remote, "file:") {
		r.URI = "git+" + attest.WithoutPassword(remote)
	}
	if changed, err := git("status", "--porcelain"); err != nil || changed != "" {
		r.Annotations = map[string]any{"modified": true}
	}
	return r, true
}

// tellSigned tells with which key the results of a build are signed.
func (w *Workspace) tellSigned(r *build.Report, err error) {
	if err != nil || r == nil || r.Signed == nil {
		return
	}
	how := "signed"
	if r.Signed.Kept {
		how = "are signed already"
	}
	fmt.Fprintf(w.Stderr, "the results of %s %s with the %s key %.16s", r.Target, how, r.Signed.Algorithm, r.Signed.KeySHA256)
	if r.Signed.Minisign != "" {
		fmt.Fprintf(w.Stderr, ", for minisign -P %s", r.Signed.Minisign)
	}
	fmt.Fprintln(w.Stderr)
}

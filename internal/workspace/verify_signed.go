package workspace

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/attest"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/signing"
)

// signedAlone reports whether a word names a directory or a file, and no target.
func (w *Workspace) signedAlone(word string) bool {
	if strings.ContainsRune(word, filepath.Separator) || word == "." {
		return true
	}
	if _, err := w.load(word); err == nil {
		return false
	}
	_, err := os.Stat(w.path(word))
	return err == nil
}

// verifySigned verifies the signatures of what is to be verified; it returns nil without a key.
func (w *Workspace) verifySigned(ctx context.Context, target string, o VerifyOptions) (*attest.Verified, error) {
	alone := w.signedAlone(target)
	if o.Key == "" {
		if alone {
			return nil, fault.New(fault.BadInput, "verifying %s: it is a file or a directory, whose signatures are verified with --key=FILE; to build it again, name the target first: mage verify TARGET %s", target, target)
		}
		return nil, nil
	}
	if alone && o.Image != "" {
		return nil, fault.New(fault.BadInput, "verifying %s and %s: want one directory or file, or a target and a file", target, o.Image)
	}
	key, err := signing.LoadPublic(w.path(o.Key))
	if err != nil {
		return nil, err
	}
	at := w.path(target)
	switch {
	case o.Image != "":
		at = w.path(o.Image)
	case !alone:
		t, err := w.load(target)
		if err != nil {
			return nil, err
		}
		at = w.Out(t.Name)
	}
	info, err := os.Stat(at)
	if err != nil {
		return nil, fault.New(fault.Missing, "verifying signatures: %w", err)
	}
	if info.IsDir() {
		return attest.Verify(ctx, at, "", key)
	}
	dir, name := signedDirectory(at)
	return attest.Verify(ctx, dir, name, key)
}

// signedDirectory returns the directory that a file is signed in, and its name there: the nearest
// one above it with a list of digests, or else its own.
func signedDirectory(file string) (dir, name string) {
	own := filepath.Dir(file)
	for dir = own; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, build.SumsName)); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			dir = own
			break
		}
	}
	name, err := filepath.Rel(dir, file)
	if err != nil {
		return own, filepath.Base(file)
	}
	return dir, filepath.ToSlash(name)
}

// signedText writes for people what was verified with a public key.
func signedText(v *attest.Verified) func(io.Writer) error {
	return func(out io.Writer) error {
		p := v.Provenance.Predicate
		what := fmt.Sprintf("%d files of %s are", len(v.Files), v.Directory)
		if len(v.Files) == 1 {
			what = v.Files[0].Name + " in " + v.Directory + " is"
		}
		_, err := fmt.Fprintf(out, "%s signed by the %s key %.16s (%s)\nbuilt for %s by %s, %s\n",
			what, v.Algorithm, v.KeySHA256, strings.Join(v.Signatures, ", "), p.BuildDefinition.ExternalParameters.Target, p.RunDetails.Builder.ID, p.RunDetails.Metadata.FinishedOn)
		return err
	}
}

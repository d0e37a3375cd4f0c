package images

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/pantavisor/pantavisor/internal/ctxio"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/filecopy"
	"github.com/pantavisor/pantavisor/revision/state"
)

// The two names in the output of every step that makes a part of a state: the
// fragment, and the directory with the objects that it names. A .pvr directory and an
// unpacked export look the same.
const (
	fragmentFile = "json"
	objectsDir   = "objects"
)

// part is a fragment of a state with its objects, in the making.
type part struct {
	dir   string
	state *state.State
}

func newPart(dir string) (*part, error) {
	p := &part{dir: dir, state: state.New(state.Spec)}
	return p, fault.Wrap(fault.IO, os.Mkdir(filepath.Join(dir, objectsDir), 0o755), "making a part")
}

// file adds a file as an object.
func (p *part) file(ctx context.Context, key, file string) error {
	sum, err := digest(ctx, file)
	if err != nil {
		return fault.Wrap(fault.IO, err, "adding %s", key)
	}
	if err := p.object(ctx, file, sum); err != nil {
		return fault.Wrap(fault.IO, err, "adding %s", key)
	}
	return fault.Wrap(fault.BadInput, p.state.SetObject(key, sum), "adding %s", key)
}

// object links a file among the objects; the same content may come twice.
func (p *part) object(ctx context.Context, file, sum string) error {
	err := filecopy.Link(ctx, filepath.Join(p.dir, objectsDir, sum), file)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	return err
}

// inline adds a JSON value.
func (p *part) inline(key string, text []byte) error {
	return fault.Wrap(fault.BadInput, p.state.Set(key, text), "adding %s", key)
}

// tree adds a directory of this machine: files named *.json as values, others as
// objects. The reader's note at the top is left out.
func (p *part) tree(ctx context.Context, dir string) error {
	entries, err := collect(ctx, dir, "")
	if err != nil {
		return fault.Wrap(fault.IO, err, "collecting %s", dir)
	}
	for _, e := range entries {
		if e.Mode.IsDir() || e.Name == "README.md" || filepath.Base(e.Name) == ".gitkeep" {
			continue
		}
		if e.Link != "" {
			return fault.New(fault.BadInput, "collecting %s: %s is a link; a revision holds files only", dir, e.Name)
		}
		if err := p.add(ctx, e.Name, filepath.Join(dir, filepath.FromSlash(e.Name))); err != nil {
			return err
		}
	}
	return nil
}

func (p *part) add(ctx context.Context, key, file string) error {
	if !state.IsInline(key) {
		return p.file(ctx, key, file)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return fault.Wrap(fault.IO, err, "adding %s", key)
	}
	return p.inline(key, text)
}

// write puts the fragment beside its objects.
func (p *part) write() error {
	err := os.WriteFile(filepath.Join(p.dir, fragmentFile), p.state.Encode(), 0o644)
	return fault.Wrap(fault.IO, err, "writing the state of a part")
}

// readPart reads the fragment in a directory and checks that its objects are there.
func readPart(dir string) (*state.State, error) {
	text, err := os.ReadFile(filepath.Join(dir, fragmentFile))
	if err != nil {
		return nil, fault.New(fault.Missing, "reading a state: %w", err)
	}
	s, err := state.Parse(text)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading %s", filepath.Join(dir, fragmentFile))
	}
	var errs []error
	for _, o := range s.Objects() {
		if !exists(filepath.Join(dir, objectsDir, o.Sum)) {
			errs = append(errs, fault.New(fault.Missing, "reading %s: object %s of %s is not in its objects", dir, o.Sum, o.Path))
		}
	}
	return s, errors.Join(errs...)
}

// digest is the SHA-256 of a file in hex.
func digest(ctx context.Context, file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, ctxio.Reader(ctx, f)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

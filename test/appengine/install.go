package appengine

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/repo"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/revision/trail"
)

// Builder makes what tests are made of.
type Builder interface {
	// Package makes the App Engine package of this machine's architecture.
	Package(ctx context.Context) (tarball string, err error)
	// Reference makes containers of a directory like containers/ into a .pvr directory.
	Reference(ctx context.Context, directory string, names []string, dir string) error
}

// Install installs the package into a directory and gives it a test's setup. It returns
// the installation's prefix.
func Install(ctx context.Context, b Builder, t *Test, work string) (prefix string, err error) {
	tarball, err := b.Package(ctx)
	if err != nil {
		return "", err
	}
	if prefix, err = install(ctx, tarball, work); err != nil {
		return "", err
	}
	return prefix, setUp(ctx, b, t, work, prefix)
}

// install unpacks the package and runs its install script.
func install(ctx context.Context, tarball, work string) (prefix string, err error) {
	prefix = filepath.Join(work, "pantavisor")
	for _, words := range [][]string{
		{"tar", "-xzf", tarball, "-C", work},
		{filepath.Join(work, "appengine", "install"), prefix},
	} {
		if out, err := exec.CommandContext(ctx, words[0], words[1:]...).CombinedOutput(); err != nil {
			return "", fault.New(fault.Internal, "installing the App Engine: %s: %w: %s", words[0], err, out)
		}
	}
	return prefix, os.RemoveAll(filepath.Join(work, "appengine"))
}

// setUp puts a test's configuration, certificates and first revision into an
// installation.
func setUp(ctx context.Context, b Builder, t *Test, work, prefix string) error {
	text, err := os.ReadFile(beside(t.Dir, t.Spec.Setup.Config))
	if err == nil {
		err = os.WriteFile(filepath.Join(prefix, "etc", "pantavisor.config"), text, 0o644)
	}
	if err != nil {
		return fault.Wrap(fault.IO, err, "configuring the test")
	}
	if t.Spec.Setup.PVS != "" {
		if err := unpackTrust(beside(t.Dir, t.Spec.Setup.PVS), filepath.Join(prefix, "etc/pantavisor/pvs/trust")); err != nil {
			return fault.Wrap(fault.BadInput, err, "unpacking %s", t.Spec.Setup.PVS)
		}
	}
	return compose(ctx, b, t, work, prefix)
}

// maxTrust bounds a certificate or key, in bytes.
const maxTrust = 1 << 20

// unpackTrust takes the certificates and public keys out of a tarball, whatever the
// directories they are in.
func unpackTrust(file, dir string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for members := tar.NewReader(zip); ; {
		h, err := members.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := filepath.Base(h.Name)
		if h.Typeflag != tar.TypeReg || !strings.HasSuffix(name, ".crt") && name != "pub.pem" {
			continue
		}
		text, err := io.ReadAll(io.LimitReader(members, maxTrust))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o644)
		}
		if err != nil {
			return err
		}
	}
}

// compose replaces revision 0 of the installation by the test's: its device.json and
// the test's containers.
func compose(ctx context.Context, b Builder, t *Test, work, prefix string) error {
	storage := filepath.Join(prefix, "storage")
	trails := filepath.Join(storage, "trails", "0")
	text, err := os.ReadFile(filepath.Join(trails, "device.json"))
	if err != nil {
		return fault.Wrap(fault.IO, err, "reading the package's device.json")
	}
	st := state.New(state.Spec)
	if err := st.Set("device.json", text); err != nil {
		return fault.Wrap(fault.Internal, err, "reading the package's device.json")
	}
	store, err := objects.Create(filepath.Join(storage, "objects"))
	if err != nil {
		return fault.Wrap(fault.IO, err, "opening the objects")
	}
	sources, err := sourcesOf(ctx, b, t, work)
	if err != nil {
		return err
	}
	for _, s := range sources {
		if st, err = s.add(ctx, st, store); err != nil {
			return fault.Wrap(fault.BadInput, err, "adding %s to the revision", s.name)
		}
	}
	if err := t.hasControl(st); err != nil {
		return err
	}
	if err := os.RemoveAll(trails); err != nil {
		return fault.Wrap(fault.IO, err, "replacing revision 0")
	}
	return fault.Wrap(fault.IO, trail.Checkout(ctx, trails, st, store, trail.Options{}), "checking revision 0 out")
}

// hasControl tells when the control container is not in the revision.
func (t *Test) hasControl(st *state.State) error {
	name := t.Spec.Setup.Containers.Control
	if _, ok := st.Get(name + "/run.json"); name == "" || ok {
		return nil
	}
	return fault.New(fault.BadInput, "setup.containers.control: %s is in none of tarballs and urls", name)
}

// source is where containers come from.
type source struct {
	name  string
	path  string
	parts state.Fragment
}

// sourcesOf lists a test's sources, with containers of this tree built.
func sourcesOf(ctx context.Context, b Builder, t *Test, work string) ([]source, error) {
	var out []source
	for i, name := range t.Spec.Setup.Containers.Tarballs {
		path := beside(t.Dir, name)
		if exists(filepath.Join(path, "container.yaml")) {
			built := filepath.Join(work, fmt.Sprintf("container-%d.pvr", i))
			if err := b.Reference(ctx, filepath.Dir(path), []string{filepath.Base(path)}, built); err != nil {
				return nil, err
			}
			path = built
		}
		out = append(out, source{name: name, path: path})
	}
	for _, url := range t.Spec.Setup.Containers.URLs {
		s, err := fromURL(t.Dir, url)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// fromURL reads a clone URL; one of this machine is a directory or file, beside the test
// unless it is absolute.
func fromURL(dir, url string) (source, error) {
	place, parts, _ := strings.Cut(url, "#")
	f, err := state.ParseFragment(parts)
	if err != nil {
		return source{}, fault.Wrap(fault.BadInput, err, "setup.containers.urls")
	}
	if isRemote(place) {
		return source{name: url, parts: f}, nil
	}
	place = strings.TrimPrefix(place, "file://")
	if strings.Contains(place, "://") {
		return source{}, fault.New(fault.BadInput, "setup.containers.urls: %s: want http, https, file or a path", url)
	}
	return source{url, beside(dir, place), f}, nil
}

// state brings the source's objects into a store and returns its state.
func (s source) state(ctx context.Context, store *objects.Store) (*state.State, error) {
	if s.path == "" {
		return fetch(ctx, s.name, store)
	}
	from, err := repo.Local(s.path, false)
	if err != nil {
		return nil, err
	}
	if _, err := from.Pull(ctx, store, s.parts.Takes); err != nil {
		return nil, err
	}
	return from.State(ctx)
}

// add takes the source's parts into a state and its objects into a store.
func (s source) add(ctx context.Context, st *state.State, store *objects.Store) (*state.State, error) {
	theirs, err := s.state(ctx, store)
	if err != nil {
		return nil, err
	}
	take := s.parts
	if len(take.Take) == 0 {
		take.Take = theirs.Parts()
	}
	return state.Get(st, theirs, take)
}

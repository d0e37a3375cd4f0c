package containers

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/pantavisor/pantavisor/ci/store"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// PublishOptions say what is published, and where.
type PublishOptions struct {
	// Dir has the packages.
	Dir string
	// To is where they go: a [store.Store] or a [Registry].
	To Destination
	// Replace replaces files of the same name with another content. Otherwise they are an error.
	Replace bool
	// DryRun changes nothing.
	DryRun bool
	// Warn is that of [IndexOptions].
	Warn func(file string, why error)
}

// Destination takes packages. [InStore] and [Registry] are such.
type Destination interface {
	// has reports whether the file of a package is there with its content, or with another one.
	has(ctx context.Context, p *Package, f *File) (same, other bool, err error)
	// put uploads a file of a package that is not there.
	put(ctx context.Context, p *Package, f *File, path string, replace bool) error
	// record puts packages into the index.
	record(ctx context.Context, list []Package) error
	// address returns where a file of a package is, for people.
	address(p *Package, name string) string
}

// Published is a file that was published.
type Published struct {
	File string `json:"file"`
	To   string `json:"to"`
	// Uploaded is false when it was there already. In a dry run it says what would be done.
	Uploaded bool `json:"uploaded"`
}

// Publish uploads the packages of a directory with their bills of materials, and puts them into the index
// there, in which the others stay. Files that are there are not uploaded again, so that what was interrupted
// can be repeated; a package is in the index only when its files are there.
func Publish(ctx context.Context, o PublishOptions) ([]Published, error) {
	list, err := listPackages(ctx, IndexOptions{Dir: o.Dir, Warn: o.Warn})
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fault.New(fault.Missing, "%s has no packages; pvci container build makes them", o.Dir)
	}
	var done []Published
	for i := range list {
		p := &list[i]
		files := []*File{{p.URL, p.SHA256, p.Size}}
		if p.SBOM != nil {
			files = append(files, p.SBOM)
		}
		for _, f := range files {
			up, err := o.file(ctx, p, f)
			if err != nil {
				return done, fault.Wrap(fault.IO, err, "publishing %s", f.URL)
			}
			done = append(done, Published{f.URL, o.To.address(p, f.URL), up})
		}
	}
	if o.DryRun {
		return done, nil
	}
	return done, o.To.record(ctx, list)
}

// file publishes a file unless it is there.
func (o *PublishOptions) file(ctx context.Context, p *Package, f *File) (uploaded bool, err error) {
	same, other, err := o.To.has(ctx, p, f)
	switch {
	case err != nil || same:
		return false, err
	case other && !o.Replace:
		return false, fault.New(fault.Different, "%s has another content; give the build another version, or --replace", o.To.address(p, f.URL))
	case o.DryRun:
		return true, nil
	}
	return true, o.To.put(ctx, p, f, filepath.Join(o.Dir, f.URL), o.Replace)
}

// inStore is a store as a destination.
type inStore struct{ *store.Store }

// InStore returns a store as a destination. All packages are beside their index.
func InStore(s *store.Store) Destination { return inStore{s} }

var _ Destination = inStore{}

func (s inStore) has(ctx context.Context, _ *Package, f *File) (same, other bool, err error) {
	sum, err := s.Digest(ctx, f.URL)
	if errors.Is(err, fs.ErrNotExist) {
		return false, false, nil
	}
	return sum == f.SHA256, sum != f.SHA256, err
}

func (s inStore) put(ctx context.Context, _ *Package, f *File, path string, replace bool) error {
	_, err := s.PutFile(ctx, f.URL, store.File{Path: path, SHA256: f.SHA256, Replace: replace})
	return err
}

func (s inStore) record(ctx context.Context, list []Package) error {
	return s.Update(ctx, indexName, maxIndex, func(old []byte) ([]byte, error) {
		var have []Package
		if old != nil {
			var err error
			if have, err = parseIndex(old); err != nil {
				return nil, err
			}
		}
		return encodeIndex(join(have, list))
	})
}

func (s inStore) address(_ *Package, name string) string {
	if u := s.URL(name); u != "" {
		return u
	}
	return s.String() + "/" + name
}

// builds returns the packages by version and build, in their order.
func builds(list []Package) [][]Package {
	var out [][]Package
	for _, p := range list {
		at := slices.IndexFunc(out, func(b []Package) bool {
			return b[0].Name == p.Name && b[0].Version == p.Version && b[0].Build == p.Build
		})
		if at < 0 {
			out = append(out, []Package{p})
		} else {
			out[at] = append(out[at], p)
		}
	}
	return out
}

package catalogue

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"

	"github.com/pantavisor/pantavisor/ci/releases"
	"github.com/pantavisor/pantavisor/ci/store"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// RemoveOptions are those of [Remove].
type RemoveOptions struct {
	Options
	// Name is the board; "" for all boards of the version.
	Name string
	// Channel is one channel; "" for all.
	Channel string
	// KeepFiles leaves the files of the releases in the store.
	KeepFiles bool
}

// Removed is what [Remove] has removed.
type Removed struct {
	Releases []releases.Found `json:"releases"`
	Files    []string         `json:"files"`
}

// Remove takes a version out of the catalogue, and then removes its files. Files that are still in
// another channel stay. Interrupted, it can be repeated with the name of the board.
func Remove(ctx context.Context, s *store.Store, version string, o RemoveOptions) (*Removed, error) {
	text, _, err := s.Get(ctx, releases.CatalogueName, releases.MaxCatalogue)
	if err != nil {
		return nil, err
	}
	c, err := releases.ParseCatalogue(text)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading %s", releases.CatalogueName)
	}
	out := &Removed{Releases: o.find(c, version)}
	names := map[string]bool{}
	for _, f := range out.Releases {
		names[f.Name] = true
	}
	if o.Name != "" { // of an interrupted removal only the files may be left
		if err := releases.CheckTarget(o.Name); err != nil {
			return nil, err
		}
		names[o.Name] = true
	}
	if out.Files, err = removable(ctx, s, c, version, o, names); err != nil {
		return nil, err
	}
	boards, listed, err := boardsOf(ctx, s, version, o, names)
	if err != nil {
		return nil, err
	}
	if len(out.Releases) == 0 && len(out.Files) == 0 && !listed {
		return nil, fault.New(fault.Missing, "the catalogue %s has no such release: %s %s %s", s, o.Name, version, o.Channel)
	}
	if o.DryRun {
		return out, nil
	}
	if err := forget(ctx, s, version, o, out.Releases, boards); err != nil {
		return nil, err
	}
	for _, name := range out.Files {
		if err := s.Delete(ctx, name); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// find lists the releases of a version that are meant.
func (o RemoveOptions) find(c releases.Catalogue, version string) (out []releases.Found) {
	for channel, versions := range c {
		v := versions[version]
		if v == nil || o.Channel != "" && o.Channel != channel {
			continue
		}
		for _, d := range v.Devices {
			if o.Name == "" || o.Name == d.Name {
				out = append(out, releases.Found{Channel: channel, Version: version, Device: d})
			}
		}
	}
	return out
}

// removable lists the files of a version that no channel has after the removal.
func removable(ctx context.Context, s *store.Store, c releases.Catalogue, version string, o RemoveOptions, names map[string]bool) ([]string, error) {
	var out []string
	for name := range names {
		used := o.KeepFiles || releases.CheckTarget(name) != nil
		for channel, versions := range c {
			if v := versions[version]; v != nil && o.Channel != "" && o.Channel != channel {
				used = used || slices.ContainsFunc(v.Devices, func(d releases.Device) bool { return d.Name == name })
			}
		}
		if used {
			continue
		}
		list, err := s.List(ctx, directoryOf(version, name))
		if err != nil {
			return nil, err
		}
		for _, e := range list {
			out = append(out, e.Name)
		}
	}
	slices.Sort(out)
	return out, nil
}

// boardsOf returns which of the names have a list of releases, sorted, and whether one of the lists has the
// version: after a removal that was interrupted it may be there only.
func boardsOf(ctx context.Context, s *store.Store, version string, o RemoveOptions, names map[string]bool) (there []string, listed bool, err error) {
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if releases.CheckTarget(name) != nil { // another program has added it: we have no file of it
			continue
		}
		b, _, err := readBoard(ctx, s, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, false, err
		}
		there = append(there, name)
		listed = listed || slices.ContainsFunc(b.Releases, func(e Entry) bool { return o.means(version, e) })
	}
	return there, listed, nil
}

// means reports whether a release of a board is to be removed.
func (o RemoveOptions) means(version string, e Entry) bool {
	return e.Version == version && (o.Channel == "" || e.Channel == o.Channel)
}

// forget takes releases out of all files of the catalogue, and their version out of the lists of boards.
func forget(ctx context.Context, s *store.Store, version string, o RemoveOptions, all []releases.Found, boards []string) error {
	err := s.Update(ctx, releases.CatalogueName, releases.MaxCatalogue, func(text []byte) (_ []byte, err error) {
		for _, f := range all {
			text, err = change(text, f.Channel, f.Version, func(old []byte) ([]byte, error) { return withoutDevice(old, f.Name) })
			if err != nil {
				return nil, err
			}
		}
		return text, nil
	})
	if err != nil {
		return err
	}
	for _, name := range boards {
		err := updateJSON(ctx, s, boardName(name), func(b *board) error {
			b.Releases = slices.DeleteFunc(b.Releases, func(e Entry) bool { return o.means(version, e) })
			b.Format, b.Name = boardFormat, name
			return nil
		})
		if err != nil {
			return err
		}
	}
	return refresh(ctx, s, o.Options, boards)
}

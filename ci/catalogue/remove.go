package catalogue

import (
	"context"
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
	if len(out.Releases) == 0 && len(out.Files) == 0 {
		return nil, fault.New(fault.Missing, "the catalogue %s has no such release: %s %s %s", s, o.Name, version, o.Channel)
	}
	if o.DryRun {
		return out, nil
	}
	if err := forget(ctx, s, o, out.Releases); err != nil {
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

// forget takes releases out of all files of the catalogue.
func forget(ctx context.Context, s *store.Store, o RemoveOptions, all []releases.Found) error {
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
	var names []string
	for _, f := range all {
		if releases.CheckTarget(f.Name) != nil { // another program has added it: we have no file of it
			continue
		}
		err := updateJSON(ctx, s, boardName(f.Name), func(b *board) error {
			b.drop(f.Channel, f.Version)
			b.Format, b.Name = boardFormat, f.Name
			return nil
		})
		if err != nil {
			return err
		}
		names = append(names, f.Name)
	}
	slices.Sort(names)
	return refresh(ctx, s, o.Options, slices.Compact(names))
}

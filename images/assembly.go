package images

import (
	"context"
	"path/filepath"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// assembly is a tree under construction that records which source gives each file.
type assembly struct {
	files fileSet
	over  build.Overlay
}

// put adds an entry of a source in place of an earlier one.
func (a *assembly) put(e tree.Entry, from string) {
	a.files[e.Name] = e
	if !e.Mode.IsDir() {
		a.over.Add(e.Name, from)
	}
}

// configuration adds the defaults, the policies, the trusted certificates and keys, and
// the vendor's files; skel may be nil.
func (a *assembly) configuration(ctx context.Context, defaults build.Source, trust []Trust, skel *build.Source) error {
	if err := a.addAll(ctx, defaults, inDefaults); err != nil {
		return err
	}
	for _, file := range trust {
		e, err := fileEntry(file.Path, "etc/pantavisor/pvs/trust/"+file.Name)
		if err != nil {
			return err
		}
		a.put(e, file.Path)
	}
	if skel == nil {
		return nil
	}
	return a.addAll(ctx, *skel, inRoot)
}

// inRoot is where the files of skel and addons go: to the same path.
func inRoot(name string) string { return name }

// inDefaults is where the files of config/defaults go.
func inDefaults(name string) string {
	if below(name, "policies") {
		return "etc/pantavisor/" + name
	}
	return "etc/pantavisor/defaults/" + name
}

// addAll merges the directories of a source; place says where a file of it goes.
func (a *assembly) addAll(ctx context.Context, src build.Source, place func(string) string) error {
	for _, dir := range src.Dirs() {
		if err := a.add(ctx, dir, place, label(src, dir)); err != nil {
			return err
		}
	}
	return nil
}

// label names one directory of a source for people.
func label(src build.Source, dir string) string {
	if dir == src.Path {
		return src.Name
	}
	return dir
}

// add merges a directory of this machine; later files replace earlier ones. A README.md
// at the top and .gitkeep files are left out.
func (a *assembly) add(ctx context.Context, dir string, place func(string) string, from string) error {
	entries, err := collect(ctx, dir, "")
	if err != nil {
		return fault.Wrap(fault.IO, err, "collecting %s", dir)
	}
	for _, e := range entries {
		e.Name = place(e.Name)
		if e.Name == "README.md" || filepath.Base(e.Name) == ".gitkeep" {
			continue
		}
		old, ok := a.files[e.Name]
		if ok && e.Mode.IsDir() != old.Mode.IsDir() {
			return fault.New(fault.BadInput, "collecting %s: %s is a directory on one side only; the initrd has %s", dir, e.Name, describe(old))
		}
		if !ok || !e.Mode.IsDir() {
			a.put(e, from)
		}
	}
	return nil
}

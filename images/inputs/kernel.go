package inputs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/kernel"
	"github.com/pantavisor/pantavisor/kernel/sources"
	"github.com/pantavisor/pantavisor/sbom"
)

// kernelTree is the step that lays out a kernel as package kernel wants it: boot/, dtbs/ and
// lib/modules/RELEASE with its index.
type kernelTree struct {
	Release string `json:",omitempty"`
	Modules *treeStep
	Image   images.Artefact
	Config  *images.Artefact
	// Trees are device trees and overlays by their paths below dtbs/.
	Trees []images.DeviceTree
}

var _ build.Step = (*kernelTree)(nil)

// Name is "input/kernel".
func (*kernelTree) Name() string { return "input/kernel" }

// Deps are the files; the step unpacks the modules itself.
func (k *kernelTree) Deps() []build.Step {
	out := []build.Step{k.Image.Step}
	if k.Config != nil {
		out = append(out, k.Config.Step)
	}
	for _, t := range k.Trees {
		out = append(out, t.From.Step)
	}
	return out
}

// Supplies is the kernel.
func (k *kernelTree) Supplies(in func(build.Step) string) ([]sbom.Supply, error) {
	return sources.Built(in(k))
}

// Run lays the tree out.
func (k *kernelTree) Run(ctx context.Context, w *build.Work) error {
	release, err := k.modules(ctx, w)
	if err != nil {
		return k.wrong(err)
	}
	files := map[string]images.Artefact{"boot/vmlinuz-" + release: k.Image}
	if k.Config != nil {
		files["boot/config-"+release] = *k.Config
	}
	for _, t := range k.Trees {
		files["dtbs/"+t.Name] = t.From
	}
	for name, from := range files {
		to := filepath.Join(w.Out, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return fault.Wrap(fault.IO, err, "laying out the kernel")
		}
		if err := build.CopyFile(ctx, to, filepath.Join(w.In(from.Step), from.File)); err != nil {
			return err
		}
	}
	return k.wrong(fault.Wrap(fault.BadInput, kernel.IndexTree(w.Out), "reading the kernel's modules"))
}

// wrong completes an error of reading the modules.
func (k *kernelTree) wrong(err error) error {
	if k.Modules == nil {
		return err
	}
	return k.Modules.origin().wrong(err)
}

// modules puts the modules where package kernel looks for them and returns their release.
func (k *kernelTree) modules(ctx context.Context, w *build.Work) (string, error) {
	lib := filepath.Join(w.Out, "lib/modules")
	if k.Modules == nil {
		return k.Release, os.MkdirAll(filepath.Join(lib, k.Release), 0o755)
	}
	directory, place := k.Modules.tree.Form == "directory", w.Tmp
	if directory { // which may be a whole root file system
		place = k.Modules.path
	} else if err := k.Modules.unpack(ctx, w.Tmp); err != nil {
		return "", err
	}
	from, release, err := releaseOf(place)
	if err != nil {
		return "", err
	}
	if !kernel.ReleaseForm.MatchString(release) {
		return "", fault.New(fault.BadInput, "%q is not the release of a kernel", release)
	}
	to := filepath.Join(lib, release)
	if err := os.MkdirAll(lib, 0o755); err != nil {
		return "", err
	}
	if directory {
		err = errors.Join(build.CopyTree(ctx, to, from), unchangedTree(place, k.Modules.SHA256))
	} else {
		err = os.Rename(from, to)
	}
	if err != nil {
		return "", err
	}
	for _, link := range []string{"build", "source"} { // to the machine that built the kernel
		if err := os.Remove(filepath.Join(to, link)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return release, checkLinks(ctx, to)
}

// checkLinks checks that no symbolic link in a directory leads out of it: it would be to what this
// machine has there.
func checkLinks(ctx context.Context, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return tree.Walk(ctx, dir, tree.Options{}, func(e tree.Entry) error {
		if e.Mode.Type() != fs.ModeSymlink {
			return nil
		}
		if _, err := root.Stat(e.Name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fault.New(fault.BadInput, "the symbolic link %s leads to %.200q, out of the modules", e.Name, e.Link)
		}
		return nil
	})
}

// moduleDirs are where a tree has the directory of the release: as modules_install writes it,
// on a system with a merged /usr, and in modules.squashfs.
var moduleDirs = []string{"lib/modules", "usr/lib/modules", "."}

// releaseOf returns the directory of the one release in a tree. A link that leads out of the tree
// is not followed: it would be to the modules of this machine.
func releaseOf(dir string) (at, release string, err error) {
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", "", err
	}
	for _, place := range moduleDirs {
		real, err := filepath.EvalSymlinks(filepath.Join(dir, place))
		if err != nil || real != dir && !strings.HasPrefix(real, dir+"/") {
			continue
		}
		list, err := os.ReadDir(real)
		if err != nil {
			return "", "", err
		}
		var found []string
		for _, e := range list {
			if e.IsDir() {
				found = append(found, e.Name())
			}
		}
		if len(found) == 1 && (place != "." || found[0] != "lib" && found[0] != "usr") {
			return filepath.Join(real, found[0]), found[0], nil
		}
		if len(found) > 1 && place != "." {
			return "", "", fault.New(fault.BadInput, "%s has the modules of %d kernels; want one", place, len(found))
		}
	}
	return "", "", fault.New(fault.BadInput, "it has no directory lib/modules/RELEASE")
}

package kernel

import (
	"context"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/spelling"
)

// DeviceTrees is the step that picks device trees and overlays of a kernel. Its output has
// the files at their paths below dtbs/.
type DeviceTrees struct {
	// Files are paths below the kernel's directory dtbs/.
	Files []string
	Tree  build.Step `json:"-"`
}

var _ build.Step = (*DeviceTrees)(nil)

// Name is "kernel/dtbs".
func (d *DeviceTrees) Name() string { return "kernel/dtbs" }

// Deps is the kernel's tree.
func (d *DeviceTrees) Deps() []build.Step { return []build.Step{d.Tree} }

// Run copies the files. A file that is not there is bad input; the error has the nearest ones.
func (d *DeviceTrees) Run(ctx context.Context, w *build.Work) error {
	dir := filepath.Join(w.In(d.Tree), "dtbs")
	for _, name := range d.Files {
		from, to := filepath.Join(dir, filepath.FromSlash(name)), filepath.Join(w.Out, filepath.FromSlash(name))
		if _, err := os.Stat(from); err != nil {
			return fault.Wrap(fault.BadInput, unknownTree(dir, name), "picking device trees (kernel.device_trees, kernel.overlays)")
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return fault.Wrap(fault.IO, err, "copying %s", name)
		}
		if err := copyFile(ctx, to, from); err != nil {
			return fault.Wrap(fault.IO, err, "copying %s", name)
		}
	}
	return nil
}

// unknownTree is the error for a device tree that the kernel does not have.
func unknownTree(dir, name string) error {
	var all []string
	_ = filepath.WalkDir(dir, func(file string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			rel, _ := filepath.Rel(dir, file)
			all = append(all, filepath.ToSlash(rel))
		}
		return nil
	})
	if len(all) == 0 {
		return fault.New(fault.BadInput, "%s: the kernel has no device trees", name)
	}
	for _, file := range all { // the usual mistake: without the vendor's directory, or with it
		if path.Base(file) == path.Base(name) {
			return fault.New(fault.BadInput, "%s: the kernel has none of that name; did you mean %s?", name, file)
		}
	}
	if near := spelling.Nearest(name, all); len(near) > 0 {
		return fault.New(fault.BadInput, "%s: the kernel has none of that name; did you mean %s?", name, strings.Join(near, " or "))
	}
	return fault.New(fault.BadInput, "%s: the kernel has none of that name among its %d", name, len(all))
}

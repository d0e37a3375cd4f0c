package kernel

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/dtoverlay"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/spelling"
)

// DeviceTrees is the step that picks device trees of a kernel and applies overlays to them.
// Its output has the device trees at their paths below dtbs/.
type DeviceTrees struct {
	// Files are paths below the kernel's directory dtbs/.
	Files []string
	// Overlays are further paths there. Each device tree gets all of them, in this order.
	Overlays []string   `json:",omitempty"`
	Tree     build.Step `json:"-"`
}

var _ build.Step = (*DeviceTrees)(nil)

// Name is "kernel/dtbs".
func (d *DeviceTrees) Name() string { return "kernel/dtbs" }

// Deps is the kernel's tree.
func (d *DeviceTrees) Deps() []build.Step { return []build.Step{d.Tree} }

// Run writes the files. A file that is not there is bad input; the error has the nearest ones.
func (d *DeviceTrees) Run(_ context.Context, w *build.Work) error {
	dir := filepath.Join(w.In(d.Tree), "dtbs")
	overlays := make([][]byte, len(d.Overlays))
	for i, name := range d.Overlays {
		var err error
		if overlays[i], err = readTree(dir, name); err != nil {
			return fault.Wrap(fault.BadInput, err, "picking overlays (kernel.overlays)")
		}
	}
	for _, name := range d.Files {
		data, err := readTree(dir, name)
		if err != nil {
			return fault.Wrap(fault.BadInput, err, "picking device trees (kernel.device_trees)")
		}
		if len(overlays) > 0 {
			if data, err = dtoverlay.Apply(data, overlays...); err != nil {
				return fault.Wrap(fault.BadInput, err, "applying kernel.overlays to %s", name)
			}
		}
		if err := writeTree(filepath.Join(w.Out, filepath.FromSlash(name)), data); err != nil {
			return fault.Wrap(fault.IO, err, "writing %s", name)
		}
	}
	return nil
}

func readTree(dir, name string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, unknownTree(dir, name)
	}
	return data, err
}

func writeTree(to string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(to, data, 0o644); err != nil {
		return err
	}
	return os.Chtimes(to, epoch, epoch)
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

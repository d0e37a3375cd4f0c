package sources

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/buildroot"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/kernel"
	"github.com/pantavisor/pantavisor/sbom"
)

// buildrootSource takes a kernel from the output directory of a build with Buildroot.
type buildrootSource struct{ external }

var _ Source = (*buildrootSource)(nil)

// Tree finds the kernel and copies it.
func (s *buildrootSource) Tree(k Kit) (build.Step, error) {
	dir, err := s.dir(k)
	if err != nil {
		return nil, err
	}
	o, err := buildroot.Open(dir)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading kernel.dir")
	}
	arch, err := o.Arch()
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading kernel.dir")
	}
	if arch.Go != s.arch.Go {
		return nil, fault.New(fault.BadInput, "kernel.dir: %s is for %s, and the target for %s (arch.go)", o.ConfigFile, arch.Go, s.arch.Go)
	}
	found, err := o.Kernel()
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading kernel.dir")
	}
	if found.Release == "" {
		return nil, fault.New(fault.BadInput, "kernel.dir: the kernel has no modules, and the directory of its build, which tells its release, is gone: build it again (make linux-rebuild)")
	}
	return &BuiltTree{kernel: found, Release: found.Release}, checkRelease(found.Release)
}

// BuiltTree is the step that lays out a kernel that another build system has made, and indexes its
// modules. Its output is a tree as package kernel describes it.
type BuiltTree struct {
	// Release is that of the kernel.
	Release string
	kernel  *buildroot.Kernel
}

var (
	_ build.Step    = (*BuiltTree)(nil)
	_ build.Sourced = (*BuiltTree)(nil)
)

// Name is "kernel/built".
func (t *BuiltTree) Name() string { return "kernel/built" }

// Deps is empty.
func (t *BuiltTree) Deps() []build.Step { return nil }

// Supplies is the kernel.
func (t *BuiltTree) Supplies(in func(build.Step) string) ([]sbom.Supply, error) {
	return Built(in(t))
}

// Sources are the files and the directory of the modules, by their places in the output.
func (t *BuiltTree) Sources() ([]build.Source, error) {
	out := []build.Source{{Name: "boot/vmlinuz-" + t.Release, Path: t.kernel.Image}}
	if t.kernel.Config != "" {
		out = append(out, build.Source{Name: "boot/config-" + t.Release, Path: t.kernel.Config})
	}
	for _, list := range [][]buildroot.DeviceTree{t.kernel.Trees, t.kernel.Overlays} {
		for _, d := range list {
			out = append(out, build.Source{Name: "dtbs/" + d.Name, Path: d.Path})
		}
	}
	if t.kernel.Modules != "" {
		out = append(out, build.Source{Name: "lib/modules", Path: t.kernel.Modules})
	}
	return out, nil
}

// Run copies and indexes.
func (t *BuiltTree) Run(ctx context.Context, w *build.Work) error {
	sources, err := t.Sources()
	if err != nil {
		return err
	}
	modules := filepath.Join(w.Out, "lib/modules", t.Release)
	if err := os.MkdirAll(modules, 0o755); err != nil {
		return fault.Wrap(fault.IO, err, "copying the kernel")
	}
	for _, s := range sources {
		if err := deposit(ctx, w.Out, s.Name, s.Path); err != nil {
			return err
		}
	}
	for _, link := range []string{"build", "source"} { // to the machine that built the kernel
		if err := os.Remove(filepath.Join(modules, link)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fault.Wrap(fault.IO, err, "copying the kernel")
		}
	}
	return fault.Wrap(fault.BadInput, kernel.IndexTree(w.Out), "indexing the kernel's modules")
}

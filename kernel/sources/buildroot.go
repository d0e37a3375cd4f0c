package sources

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/internal/buildroot"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/kernel"
	"github.com/pantavisor/pantavisor/targets"
)

// buildrootSource takes a kernel from the output directory of a build with Buildroot.
type buildrootSource struct {
	kernel *targets.Kernel
	arch   targets.Arch
}

var _ Source = (*buildrootSource)(nil)

// Requests lists the packages of the firmware.
func (s *buildrootSource) Requests() []debian.Request {
	return firmwareRequests(s.kernel, s.arch.Debian)
}

// HostRequests lists nothing: no program runs.
func (s *buildrootSource) HostRequests(string) []debian.Request { return nil }

// Firmware unpacks the packages' firmware files.
func (s *buildrootSource) Firmware(k Kit) ([]build.Step, error) {
	return firmware(k, s.kernel, s.arch.Debian)
}

// Tree finds the kernel and copies it.
func (s *buildrootSource) Tree(k Kit) (build.Step, error) {
	dir := s.kernel.Dir
	if !filepath.IsAbs(dir) {
		place, ok := k.Layers.Find(dir)
		if !ok {
			return nil, fault.New(fault.Missing, "kernel.dir: directory %s does not exist", place.Path)
		}
		dir = place.Path
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
	return &BuiltTree{kernel: found, Release: found.Release}, nil
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
		if err := copySource(ctx, filepath.Join(w.Out, filepath.FromSlash(s.Name)), s.Path); err != nil {
			return fault.Wrap(fault.IO, err, "copying the kernel")
		}
	}
	for _, link := range []string{"build", "source"} { // to the machine that built the kernel
		if err := os.Remove(filepath.Join(modules, link)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fault.Wrap(fault.IO, err, "copying the kernel")
		}
	}
	return fault.Wrap(fault.BadInput, kernel.IndexTree(w.Out), "indexing the kernel's modules")
}

// copySource copies a file or a directory.
func copySource(ctx context.Context, to, from string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return build.CopyTree(ctx, to, from)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return build.CopyFile(ctx, to, from)
}

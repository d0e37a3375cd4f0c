package sources

import (
	"bufio"
	"context"
	"io"
	"os"
	"path/filepath"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/tarball"
	"github.com/pantavisor/pantavisor/internal/decompress"
	"github.com/pantavisor/pantavisor/internal/deploydir"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/kernel"
	"github.com/pantavisor/pantavisor/sbom"
)

// yoctoSource takes a kernel from the deploy directory of a build with Yocto.
type yoctoSource struct{ external }

var _ Source = (*yoctoSource)(nil)

// Tree finds the kernel by the variables of the image.
func (s *yoctoSource) Tree(k Kit) (build.Step, error) {
	dir, err := s.dir(k)
	if err != nil {
		return nil, err
	}
	image, err := deploydir.Find(dir, s.kernel.Image, s.kernel.Machine)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading kernel.dir")
	}
	found, err := image.Kernel()
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading kernel.dir")
	}
	release := ""
	if found.Modules == "" {
		if release, err = image.Release(); err != nil {
			return nil, fault.Wrap(fault.BadInput, err, "reading kernel.dir")
		}
		if release == "" {
			return nil, fault.New(fault.BadInput, "kernel.dir: %s has no archive of the kernel's modules, and the image's manifest no package kernel-RELEASE, which tells its release: "+
				"have the modules deployed, MODULE_TARBALL_DEPLOY = \"1\"", dir)
		}
		if err := checkRelease(release); err != nil {
			return nil, err
		}
	}
	return &DeployedTree{Release: release, kernel: found}, nil
}

// DeployedTree is the step that lays out a kernel that a build with Yocto has deployed, and indexes
// its modules. Its output is a tree as package kernel describes it.
type DeployedTree struct {
	// Release is that of a kernel without modules.
	Release string `json:",omitempty"`
	kernel  *deploydir.Kernel
}

var (
	_ build.Step    = (*DeployedTree)(nil)
	_ build.Sourced = (*DeployedTree)(nil)
)

// Name is "kernel/deployed".
func (t *DeployedTree) Name() string { return "kernel/deployed" }

// Deps is empty.
func (t *DeployedTree) Deps() []build.Step { return nil }

// Supplies is the kernel.
func (t *DeployedTree) Supplies(in func(build.Step) string) ([]sbom.Supply, error) {
	return Built(in(t))
}

// Sources are the kernel, its modules and device trees.
func (t *DeployedTree) Sources() ([]build.Source, error) {
	out := []build.Source{{Name: "boot/vmlinuz", Path: t.kernel.Image}}
	if t.kernel.Modules != "" {
		out = append(out, build.Source{Name: "modules", Path: t.kernel.Modules})
	}
	for _, d := range t.kernel.Trees {
		out = append(out, build.Source{Name: "dtbs/" + d.Name, Path: d.File})
	}
	return out, nil
}

// Run unpacks the modules, copies the rest and indexes.
func (t *DeployedTree) Run(ctx context.Context, w *build.Work) error {
	release, err := t.modules(ctx, w)
	if err != nil {
		return fault.Wrap(fault.BadInput, err, "unpacking %s", t.kernel.Modules)
	}
	files := map[string]string{"boot/vmlinuz-" + release: t.kernel.Image}
	for _, d := range t.kernel.Trees {
		files["dtbs/"+d.Name] = d.File
	}
	for name, from := range files {
		if err := deposit(ctx, w.Out, name, from); err != nil {
			return err
		}
	}
	return fault.Wrap(fault.BadInput, kernel.IndexTree(w.Out), "indexing the kernel's modules")
}

// modules unpacks the archive of kernel.bbclass and returns the release.
func (t *DeployedTree) modules(ctx context.Context, w *build.Work) (string, error) {
	if t.kernel.Modules == "" {
		return t.Release, os.MkdirAll(filepath.Join(w.Out, "lib/modules", t.Release), 0o755)
	}
	f, err := os.Open(t.kernel.Modules)
	if err != nil {
		return "", err
	}
	defer f.Close()
	in, err := decompress.Reader(bufio.NewReader(f))
	if err != nil {
		return "", err
	}
	defer in.Close()
	if err := unpack(ctx, w.Out, tarball.NewReader(io.LimitReader(in, maxKernel))); err != nil {
		return "", err
	}
	release, err := kernel.Release(w.Out)
	if err != nil {
		return "", err
	}
	return release, checkRelease(release)
}

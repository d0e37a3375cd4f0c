package sources

import (
	"context"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/layers"
	"github.com/pantavisor/pantavisor/internal/spelling"
	"github.com/pantavisor/pantavisor/kernel"
	"github.com/pantavisor/pantavisor/kernel/compile"
	"github.com/pantavisor/pantavisor/kernel/kconfig"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/targets"
)

// compiled compiles the kernel of a target: Debian's source, or a tree of the user.
type compiled struct {
	kernel *targets.Kernel
	arch   targets.Arch
}

var _ Source = (*compiled)(nil)

// sourceRequest is the name of the request for the kernel's source.
const sourceRequest = "kernel-source"

// ownTree reports whether the source is not Debian's.
func (s *compiled) ownTree() bool { return s.kernel.Source == "tree" }

// request asks for the package with Debian's source, which is the same for every architecture.
func (s *compiled) request() debian.Request {
	return debian.Request{Name: sourceRequest, Suite: s.kernel.Suite, Arch: "amd64", Packages: []string{"linux-source"}}
}

// Requests lists the source and the packages of the firmware.
func (s *compiled) Requests() []debian.Request {
	var out []debian.Request
	if !s.ownTree() {
		out = append(out, s.request())
	}
	return append(out, firmwareRequests(s.kernel, s.arch.Debian)...)
}

// HostRequests lists the compilers for a build machine.
func (s *compiled) HostRequests(host string) []debian.Request {
	m, err := machineOf(s.arch)
	if err != nil {
		return nil // Tree says so
	}
	return []debian.Request{m.toolchain(host)}
}

// Firmware unpacks the packages' firmware files.
func (s *compiled) Firmware(k Kit) ([]build.Step, error) {
	return firmware(k, s.kernel, s.arch.Debian)
}

// Tree compiles the kernel.
func (s *compiled) Tree(k Kit) (build.Step, error) {
	m, err := machineOf(s.arch)
	if err != nil {
		return nil, err
	}
	step := &compile.Step{Machine: m.Machine, Defconfig: s.kernel.Defconfig}
	if step.Source, err = s.origin(k); err != nil {
		return nil, err
	}
	step.Root, err = k.Packages.BuildRoot(m.toolchain(debian.HostArch()), map[string]string{"usr/bin/awk": "mawk"})
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Concat(common, m.fragments, s.kernel.Fragments) {
		found, err := fragments(k.Layers, name)
		if err != nil {
			return nil, err
		}
		step.Fragments = append(step.Fragments, found...)
	}
	step.Patches, err = patches(k.Layers, s.kernel.Patches)
	return &CompiledTree{Compiled: step}, err
}

// CompiledTree is the step that indexes the modules of a kernel that was compiled. It is apart
// from the compilation, so that a change of the index compiles nothing. Its output is a tree as
// package kernel describes it.
type CompiledTree struct {
	Compiled build.Step `json:"-"`
}

var _ build.Step = (*CompiledTree)(nil)

// Name is "kernel/compiled".
func (t *CompiledTree) Name() string { return "kernel/compiled" }

// Deps is the compilation.
func (t *CompiledTree) Deps() []build.Step { return []build.Step{t.Compiled} }

// Run copies and indexes.
func (t *CompiledTree) Run(ctx context.Context, w *build.Work) error {
	if err := build.CopyTree(ctx, w.Out, w.In(t.Compiled)); err != nil {
		return fault.Wrap(fault.IO, err, "copying the kernel")
	}
	return fault.Wrap(fault.BadInput, kernel.IndexTree(w.Out), "indexing the kernel's modules")
}

// kernelLicence is that of the kernel's sources as a whole (Linux: COPYING).
const kernelLicence = "GPL-2.0-only WITH Linux-syscall-note"

// Supplies is the source package of the kernel, or else the kernel of the release that was compiled.
func (t *CompiledTree) Supplies(in func(build.Step) string) ([]sbom.Supply, error) {
	if c, ok := t.Compiled.(*compile.Step); ok {
		if pkg, ok := c.Source.(compile.Package); ok {
			return compiledOf(pkg.Package.Supply(in(pkg.Package), in(t)))
		}
	}
	return Built(in(t))
}

// compiledOf completes what a kernel was compiled from.
func compiledOf(from []sbom.Supply, err error) ([]sbom.Supply, error) {
	for i := range from {
		from[i].Package.Declared = kernelLicence
		asKernel(&from[i].Package)
	}
	return from, err
}

// common are the fragments of every kernel.
var common = []string{"base", "netfilter", "dm", "crypto-user", "vpn"}

// origin returns where the source comes from.
func (s *compiled) origin(k Kit) (compile.Origin, error) {
	switch {
	case !s.ownTree():
		pkg, err := k.Packages.Fetch(s.request(), "linux-source*")
		return compile.Package{Package: pkg}, err
	case s.kernel.Part != "":
		step, file, err := k.Part(s.kernel.Part)
		return compile.Archive{Step: step, File: file}, err
	case filepath.IsAbs(s.kernel.Dir):
		return compile.Tree{Name: "kernel.dir", Path: filepath.Clean(s.kernel.Dir)}, nil
	}
	place, ok := k.Layers.Find(s.kernel.Dir)
	if !ok {
		return nil, fault.New(fault.Missing, "kernel.dir: directory %s does not exist", place.Path)
	}
	return compile.Tree{Name: place.Name, Path: place.Path}, nil
}

// Where fragments and patches are in a layer.
const (
	fragmentsDir = "kernel/fragments"
	fragmentExt  = ".config"
	patchesDir   = "kernel/patches"
)

// versioned matches the name of a fragment for kernels from a version on: NAME-6.8.
var versioned = regexp.MustCompile(`^(.+)-([0-9]+\.[0-9]+)$`)

// fragments returns the fragment with a name, and those for later kernels in the order of their
// versions: NAME.config, NAME-6.8.config, NAME-6.12.config.
func fragments(l *layers.Layers, name string) ([]compile.Fragment, error) {
	names := fragmentNames(l)
	if !slices.Contains(names, name) || versioned.MatchString(name) {
		return nil, fault.Wrap(fault.BadInput, spelling.Unknown("fragment", name, names), "kernel.fragments, files of %s", fragmentsDir)
	}
	out := []compile.Fragment{{Source: fragmentSource(l, name)}}
	for _, other := range names {
		if m := versioned.FindStringSubmatch(other); m != nil && m[1] == name {
			out = append(out, compile.Fragment{Since: m[2], Source: fragmentSource(l, other)})
		}
	}
	slices.SortStableFunc(out, compile.Fragment.Order)
	for _, f := range out {
		if err := readable(f.Source); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// maxFragment bounds a fragment, in bytes.
const maxFragment = 1 << 20

// readable reports a mistake in a fragment: before a build, not after the source was unpacked.
func readable(s build.Source) error {
	text, err := bounded.ReadRegular(s.Path, maxFragment)
	if err != nil {
		return fault.New(fault.BadInput, "reading %s: %w", s.Name, err)
	}
	_, err = kconfig.Parse(s.Name, string(text))
	return err
}

func fragmentSource(l *layers.Layers, name string) build.Source {
	place, _ := l.Find(path.Join(fragmentsDir, name+fragmentExt))
	return build.Source{Name: place.Name, Path: place.Path}
}

// fragmentNames lists the fragments of all layers, sorted.
func fragmentNames(l *layers.Layers) []string {
	var out []string
	for _, dir := range l.Dirs(fragmentsDir) {
		entries, _ := os.ReadDir(dir) // most products have none
		for _, e := range entries {
			if name, ok := strings.CutSuffix(e.Name(), fragmentExt); ok {
				out = append(out, name)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// patches finds the patches of a target.
func patches(l *layers.Layers, names []string) ([]build.Source, error) {
	var out []build.Source
	for _, name := range names {
		place, ok := l.Find(path.Join(patchesDir, name))
		if !ok {
			return nil, fault.New(fault.Missing, "kernel.patches: file %s does not exist", place.Path)
		}
		out = append(out, build.Source{Name: place.Name, Path: place.Path})
	}
	return out, nil
}

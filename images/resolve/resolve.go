// Package resolve turns a target into the list of inputs for its images: it asks the
// kernel's source, the boot loader and the containers for their parts and finds the
// configuration files in the source tree. Package images composes that list and does not
// know this package.
package resolve

import (
	"cmp"
	"path"
	"path/filepath"
	"slices"
	"sync"

	"github.com/pantavisor/pantavisor/bootloader"
	"github.com/pantavisor/pantavisor/bootloader/uboot"
	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/build/gobinary"
	"github.com/pantavisor/pantavisor/build/gosource"
	"github.com/pantavisor/pantavisor/build/options"
	"github.com/pantavisor/pantavisor/containers"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/layers"
	"github.com/pantavisor/pantavisor/kernel"
	"github.com/pantavisor/pantavisor/kernel/sources"
	"github.com/pantavisor/pantavisor/targets"
)

// Options are the sources of parts and the user's choices.
type Options struct {
	// Layers are searched for configuration, containers and the files of vendors.
	Layers *layers.Layers
	// Module is the Go code of this module: the runtime and the programs of the containers
	// that it ships.
	Module *gosource.Module
	// Own is the Go code of the workspace; nil when the workspace is not a module, and
	// Module when it is this one.
	Own *gosource.Module
	// Parts makes the steps for Debian packages from the target's lock, which must have
	// [BuildRequests].
	Parts *debian.Parts
	// MergeSource is the path of a .pvr directory or of an export whose containers go into
	// revision 0 in place of the target's own (PVR_MERGE_SRC). Default: none.
	MergeSource string
	// UseSourceBSP takes the BSP from MergeSource and builds none (PVR_USE_SRC_BSP). It
	// requires MergeSource.
	UseSourceBSP bool
	// MergeSBOM is a directory with bills of materials to which that of the image refers
	// (PV_MERGE_SBOM). Default: none.
	MergeSBOM string
	// GivenParts are the variables PV_PART_NAME and PV_PART_NAME_SHA256 with the paths and
	// digests of named parts, for those that the target does not have itself.
	GivenParts map[string]string
	// Epoch is the time of everything composed (SOURCE_DATE_EPOCH).
	Epoch build.Stamp
	// Debug adds a shell on the console (PANTAVISOR_DEBUG).
	Debug bool
	// TrustCertificates and TrustKey are PEM files that signatures are checked
	// against (PV_PVS_CERT_PEM, PV_PVS_PUB_PEM). Default: those in ca/pvs.
	TrustCertificates, TrustKey string
	// Release is the version of the firmware for runtime and build.json (PV_VERSION).
	// Default: "devel" in the runtime, none in build.json.
	Release string
	// Pipeline is where the source comes from, for build.json.
	Pipeline options.Pipeline
	// FactoryToken is the token with which devices claim themselves (PV_FACTORY_AUTOTOK).
	// Default: that of pantahub.config, if any.
	FactoryToken string
}

// Target returns the inputs of a target and runs nothing. All mistakes in the options are
// reported at once.
func Target(t *targets.Target, o Options) (*images.Inputs, error) {
	in, err := target(t, o)
	return in, fault.Wrap(fault.BadInput, err, "planning target %s", t.Name)
}

func target(t *targets.Target, o Options) (*images.Inputs, error) {
	if o.UseSourceBSP && o.MergeSource == "" {
		return nil, fault.New(fault.BadInput, "PVR_USE_SRC_BSP is set, but PVR_MERGE_SRC names no reference device to take the BSP from")
	}
	p, err := open(t, o)
	if err != nil {
		return nil, err
	}
	if p.target, err = p.overridden(); err != nil {
		return nil, err
	}
	program := p.runtime()
	in := &images.Inputs{
		Target: firmware(t), Release: o.Release, Pipeline: images.Pipeline(o.Pipeline), FactoryToken: images.Secret(o.FactoryToken), Epoch: o.Epoch, X86: p.x86(), Outputs: p.outputs(),
		Runtime: images.Artefact{Step: program, File: program.File()},
		Board:   boardOf(t), Support: t.Support.SBOM(),
	}
	if o.MergeSBOM != "" {
		dir, err := filepath.Abs(o.MergeSBOM)
		if err != nil {
			return nil, err
		}
		in.MergedSBOM = &images.MergeSBOM{Path: dir}
	}
	for _, part := range []func() error{
		func() (err error) { in.Packages, err = p.packages(); return err },
		func() (err error) { in.Config, err = p.config(); return err },
		func() (err error) { in.Kernel, err = p.kernel(); return err },
		func() (err error) { in.Addons, err = p.addons(); return err },
		func() (err error) { in.Containers, err = p.containers(); return err },
		func() (err error) { in.Layouts, in.Loader, err = p.media(in); return err },
		func() (err error) { in.VEX, err = p.statements(); return err },
		func() (err error) { in.Tezi, err = p.tezi(); return err },
		func() (err error) { in.Installer, err = p.installer(in); return err },
	} {
		if err := part(); err != nil {
			return nil, err
		}
	}
	return in, nil
}

// boardOf returns what the BSP of a target says of itself. All builds of a target are for its
// board.
func boardOf(t *targets.Target) images.Board {
	if t.Kernel == nil {
		return images.Board{}
	}
	return images.Board{Name: t.Definition, Arch: t.Arch.Go, Provides: t.Provides, Requires: t.Requires, Conflicts: t.Conflicts}
}

// providers makes the parts of one target.
type providers struct {
	Options
	target  *targets.Target
	toolbox *debian.Toolbox // nil when nothing needs it
	// containerRequests are containers.Requests, which read all definitions.
	containerRequests func() []debian.Request
}

// open fills in what the options leave out.
func open(t *targets.Target, o Options) (p *providers, err error) {
	p = &providers{Options: o, target: t}
	p.containerRequests = sync.OnceValue(func() []debian.Request { return containers.Requests(t, o.Layers) })
	p.Debug = o.Debug || t.Debug
	if tools := toolsFor(t); len(tools) > 0 {
		p.toolbox, err = o.Parts.Toolbox(toolsRequest(tools, debian.HostArch()))
	}
	return p, err
}

func (p *providers) x86() bool { return p.target.Arch.Go == "amd64" || p.target.Arch.Go == "386" }

func (p *providers) hasKernel() bool {
	return p.target.Kernel != nil && !p.UseSourceBSP && !p.lacksKernel()
}

// outputs returns the outputs that the target defines.
func (p *providers) outputs() []images.Output {
	var out []images.Output
	if p.hasKernel() {
		out = append(out, images.OutputExport)
	}
	switch {
	case p.target.Images == nil || p.lacksMedium():
	case p.target.Installer != nil:
		return []images.Output{images.OutputInstaller}
	default:
		out = append(out, images.OutputImage)
	}
	if p.target.Rootfs && p.hasKernel() {
		out = append(out, images.OutputRootfs)
	}
	if p.target.Tezi != nil && !p.lacksMedium() {
		out = append(out, images.OutputTezi)
	}
	if p.target.AppEngine != nil {
		out = append(out, images.OutputAppEngine)
	}
	return out
}

// runtimePackage is the main package of the device binary.
const runtimePackage = "cmd/pantavisor"

// runtime returns the step that builds the device binary, the one program that gets the
// release.
func (p *providers) runtime() *gobinary.Step {
	step := gobinary.ForDevice(p.Module, runtimePackage, p.target.Arch)
	step.Release = p.Release
	return step
}

// program returns the step that builds a main package of the module that a layer is.
func (p *providers) program(layer layers.Layer, pkg string) (containers.Builder, error) {
	pkg = path.Clean(pkg)
	switch {
	case layer != p.Layers.Top() || p.Own == p.Module:
		if pkg == runtimePackage {
			return p.runtime(), nil
		}
		step := gobinary.ForDevice(p.Module, pkg, p.target.Arch)
		return step, step.Check()
	case p.Own == nil:
		return nil, fault.New(fault.BadInput, "%s has no go.mod: Go programs need one (mage init makes it)", layer.Dir)
	}
	step := gobinary.New(p.Own, pkg, p.target.Arch)
	step.Own = true
	return step, step.Check()
}

func (p *providers) packages() ([]string, error) {
	requests, err := bspRequests(p.target)
	return p.Parts.Names(append(requests, p.containerRequests()...)), err
}

func (p *providers) kernel() (*images.Kernel, error) {
	if !p.hasKernel() {
		return nil, nil
	}
	source, err := sources.Of(p.target)
	if err != nil {
		return nil, err
	}
	tree, err := source.Tree(p.sourceKit())
	if err != nil {
		return nil, err
	}
	firmware, err := p.firmware(source)
	k := p.target.Kernel
	trees := &kernel.DeviceTrees{Files: k.DeviceTrees, Overlays: k.Overlays, Tree: tree}
	return &images.Kernel{
		DeviceTrees: deviceTrees(trees, k.DeviceTrees),
		Image:       images.Artefact{Step: p.kernelImage(tree), File: kernel.ImageFile},
		Tree:        images.Artefact{Step: tree}, EarlyModules: p.target.Kernel.EarlyModules, Firmware: firmware, FIT: fitOf(p.target),
	}, err
}

// kernelImage returns the step with the kernel in the target's form; in a FIT it is as the
// source has it.
func (p *providers) kernelImage(tree build.Step) build.Step {
	if f := p.target.Kernel.Format; f == "" || f == uboot.FIT {
		return &kernel.Image{Tree: tree}
	}
	step := &kernel.Converted{Format: p.target.Kernel.Format, Tree: tree}
	if step.Format == uboot.LegacyKernel {
		step.Arch = uboot.CPU(p.target.Arch.Go)
		if b := p.target.Bootloader; b != nil && b.Addresses != nil {
			step.Load = uint32(b.Addresses.Kernel)
		}
	}
	return step
}

// sourceKit returns what the kernel's source makes its steps from.
func (p *providers) sourceKit() sources.Kit {
	return sources.Kit{Packages: p.Parts, Layers: p.Layers, Part: func(name string) (build.Step, string, error) {
		a, err := p.part(name)
		return a.Step, a.File, err
	}}
}

// fitOf returns how the kernel's files are joined in a FIT, nil when they are not.
func fitOf(t *targets.Target) *images.FITForm {
	if t.Kernel.Format != uboot.FIT {
		return nil
	}
	return &images.FITForm{Arch: uboot.FITArch(t.Arch.Go), Kernel: uint64(t.Bootloader.Addresses.Kernel)}
}

func deviceTrees(step build.Step, names []string) []images.DeviceTree {
	var out []images.DeviceTree
	for _, name := range names {
		out = append(out, images.DeviceTree{Name: name, From: images.Artefact{Step: step, File: name}})
	}
	return out
}

func (p *providers) firmware(source sources.Source) (*images.Firmware, error) {
	f := p.target.Kernel.Firmware
	if f == nil {
		return nil, nil
	}
	trees, err := source.Firmware(p.sourceKit())
	out := &images.Firmware{Exclude: f.Exclude, Budget: f.Budget}
	for _, tree := range trees {
		out.Trees = append(out.Trees, images.Artefact{Step: tree})
	}
	return out, err
}

// addons returns those of the target in their order, then the debug shell.
func (p *providers) addons() ([]images.Addon, error) {
	if !p.hasKernel() {
		return nil, nil
	}
	var out []images.Addon
	for _, a := range p.target.Addons {
		step, err := p.addon(a)
		if err != nil {
			return nil, fault.Wrap(fault.BadInput, err, "adding addon %s", a.Name)
		}
		name := images.AddonFile(a.Name)
		out = append(out, images.Addon{From: images.Artefact{Step: step, File: name}, Name: name})
	}
	if !p.Debug {
		return out, nil
	}
	shell, err := p.debugShell()
	return append(out, shell...), err
}

// addon returns the step that makes one addon of the target.
func (p *providers) addon(a targets.Addon) (build.Step, error) {
	step := &images.FilesAddon{Label: a.Name, X86: p.x86(), Epoch: p.Epoch}
	if a.Directory != "" {
		place, ok := p.Layers.Find(a.Directory)
		if !ok {
			return nil, fault.New(fault.BadInput, "directory %s is not there", place.Path)
		}
		step.Directory = &build.Source{Name: place.Name, Path: place.Path}
		return step, nil
	}
	program, err := p.program(p.Layers.Top(), a.Program)
	if err != nil {
		return nil, err
	}
	step.Program = &images.Artefact{Step: program, File: program.File()}
	step.Path = cmp.Or(a.Path, path.Join("usr/bin", path.Base(a.Program)))
	return step, nil
}

// debugShell is made from the containers' Debian packages.
func (p *providers) debugShell() ([]images.Addon, error) {
	pkg, err := p.containerPackage("busybox-static")
	if err != nil {
		return nil, fault.Wrap(fault.Unsupported, err, "adding the debug shell (PANTAVISOR_DEBUG)")
	}
	shell := &images.DebugAddon{
		Epoch: p.Epoch, X86: p.x86(), Busybox: &debian.Unpack{Keep: []string{"bin/", "usr/bin/"}, Package: pkg},
	}
	return []images.Addon{{From: images.Artefact{Step: shell, File: images.DebugAddonFile}, Name: images.DebugAddonFile}}, nil
}

func (p *providers) containerPackage(name string) (*debian.Fetch, error) {
	requests := p.containerRequests()
	if len(requests) == 0 {
		return nil, fault.New(fault.BadInput, "it has no Debian packages for %s", containers.Request)
	}
	return p.Parts.Fetch(requests[0], name)
}

// containerDependencies returns the steps for a package that a container names and for all
// that it depends on.
func (p *providers) containerDependencies(name string) ([]*debian.Fetch, error) {
	for _, r := range p.containerRequests() {
		if r.Closure && slices.Equal(r.Packages, []string{name}) {
			return p.Parts.All(r)
		}
	}
	return nil, fault.New(fault.Internal, "nothing asks for the dependencies of %s", name)
}

// containers returns those of the reference device, or else the target's own.
func (p *providers) containers() ([]images.Artefact, error) {
	if !p.target.HasStorage() {
		return nil, nil
	}
	if p.MergeSource != "" {
		abs, err := filepath.Abs(p.MergeSource)
		return []images.Artefact{{Step: &images.Reference{BSP: p.UseSourceBSP, Path: abs, Instead: slices.Sorted(slices.Values(p.target.Containers))}}}, err
	}
	groups, disks := deviceNames(p.defaults(), p.vendors("stepskel"))
	parts, err := containers.Parts(p.target, containers.Options{
		Groups: groups, Disks: disks,
		Epoch:    p.Epoch,
		Layers:   p.Layers,
		Program:  p.program,
		Packages: p.containerPackage, Dependencies: p.containerDependencies,
	})
	var out []images.Artefact
	for _, part := range parts {
		out = append(out, images.Artefact{Step: part})
	}
	return out, err
}

// kit returns what a boot loader makes its steps from.
func (p *providers) kit(in *images.Inputs) bootloader.Kit {
	kit := bootloader.Kit{Tools: p.toolbox, Epoch: p.Epoch}
	if requests := bootloader.Packages(p.target); len(requests) > 0 {
		kit.Package = p.Parts.Unpacker(requests[0])
	}
	for _, f := range p.target.Bootloader.Files {
		if !p.leftOut(f.Part) {
			kit.Files = append(kit.Files, f)
		}
	}
	if in.Kernel == nil {
		return kit
	}
	kit.BSP = &bootloader.BSP{Kernel: fileOf(in.Kernel.Image), Tree: in.Kernel.Tree.Step}
	for _, archive := range in.Initrd() {
		kit.BSP.Initrd = append(kit.BSP.Initrd, fileOf(archive))
	}
	if f := in.FIT(); f != nil {
		file := fileOf(*f)
		kit.BSP.FIT = &file
	}
	return kit
}

func fileOf(a images.Artefact) bootloader.File { return bootloader.File{Step: a.Step, Path: a.File} }

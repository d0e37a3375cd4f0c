package images

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/bootloader"
	"github.com/pantavisor/pantavisor/bootloader/grub"
	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/build/gobinary"
	"github.com/pantavisor/pantavisor/build/gosource"
	"github.com/pantavisor/pantavisor/containers"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/kernel"
	"github.com/pantavisor/pantavisor/targets"
)

// Options say what to compose.
type Options struct {
	// Target is the board.
	Target *targets.Target
	// Root is the source tree, the module's folder.
	Root string
	// Module is the source tree's Go code. Default: that of Root.
	Module *gosource.Module
	// Parts makes the steps for Debian packages, from the target's lock.
	Parts *debian.Parts
	// MergeSource is a .pvr folder or an export whose containers go into revision
	// 0 in place of the target's own (PVR_MERGE_SRC). Default: none.
	MergeSource string
	// UseSourceBSP takes the BSP from MergeSource and builds none
	// (PVR_USE_SRC_BSP). It needs MergeSource.
	UseSourceBSP bool
	// Epoch is the time of everything composed (SOURCE_DATE_EPOCH).
	Epoch build.Stamp
	// Debug adds a shell on the console (PANTAVISOR_DEBUG).
	Debug bool
	// TrustCertificates and TrustKey are PEM files that signatures are checked
	// against (PV_PVS_CERT_PEM, PV_PVS_PUB_PEM). Default: those in ca/pvs.
	TrustCertificates, TrustKey string
	// Release is what the runtime and build.json call this firmware (PV_VERSION).
	// Default: a digest of the runtime's sources; build.json then tells none.
	Release string
}

// Components are the names of the component targets, in the order in which they
// build on each other (manual: component targets).
var Components = []string{"init", "initrd", "kernel", "bsp", "trail", "image"}

// Composition is the graph of a target.
type Composition struct {
	// Components maps a component's name to its steps; components that the target
	// does not have are absent.
	Components map[string][]build.Step
	// Artefacts are what `mage build` leaves under out/TARGET.
	Artefacts []build.Artefact
}

// Wanted are the steps of all artefacts.
func (c *Composition) Wanted() []build.Step {
	var out []build.Step
	for _, a := range c.Artefacts {
		if !slices.Contains(out, a.Step) {
			out = append(out, a.Step)
		}
	}
	return out
}

// Graph makes the steps for a target. Nothing is run; what is wrong with the
// options is returned at once.
func Graph(o Options) (*Composition, error) {
	if o.UseSourceBSP && o.MergeSource == "" {
		return nil, fault.New(fault.BadInput, "PVR_USE_SRC_BSP is set, but PVR_MERGE_SRC names no reference device to take the BSP from")
	}
	g := &grower{Options: o, c: &Composition{Components: map[string][]build.Step{}}}
	for _, grow := range []func() error{g.runtime, g.tools, g.kernel, g.initrd, g.bsp, g.loader, g.trail, g.image, g.appEngine} {
		if err := grow(); err != nil {
			return nil, fault.Wrap(fault.BadInput, err, "planning target %s", o.Target.Name)
		}
	}
	return g.c, nil
}

// grower builds a composition part by part.
type grower struct {
	Options
	c *Composition

	program *gobinary.Step
	toolbox *debian.Toolbox
	tree    *kernel.Tree
	base    *Initrd
	addons  []Addon
	part    *BSP
	boot    bootloader.Loader
	storage *Trail
}

func (g *grower) platform() string {
	if g.Target.Platform != "" {
		return g.Target.Platform
	}
	return g.Target.Name
}

func (g *grower) request(name string) (debian.Request, error) {
	r, ok := debian.NamedRequest(g.Target, name)
	if !ok {
		return r, fault.New(fault.BadInput, "it takes nothing from Debian for %s", name)
	}
	return r, nil
}

func (g *grower) runtime() (err error) {
	if g.Module == nil {
		if g.Module, err = gosource.Open(g.Root); err != nil {
			return err
		}
	}
	g.program = gobinary.New(g.Module, "cmd/pantavisor", g.Target.Arch)
	g.program.Release = g.Release
	g.c.Components["init"] = []build.Step{g.program}
	return nil
}

func (g *grower) tools() (err error) {
	if g.Target.AppEngine != nil { // nothing of it is made by a helper program
		return nil
	}
	g.toolbox, err = g.Parts.Toolbox(debian.Tools(debian.HostArch()))
	return err
}

func (g *grower) kernel() error {
	if g.Target.Kernel == nil || g.UseSourceBSP {
		return nil
	}
	r, err := g.request(debian.KernelRequest)
	if err != nil {
		return err
	}
	pkg, err := g.Parts.Fetch(r, "linux-image-*") // what the meta package stands for
	if err != nil {
		return err
	}
	g.tree = &kernel.Tree{Package: pkg}
	return nil
}

// x86 tells whether code of the target is helped by the filter for branches.
func (g *grower) x86() bool { return g.Target.Arch.Go == "amd64" || g.Target.Arch.Go == "386" }

func (g *grower) initrd() error {
	if g.tree == nil {
		return nil
	}
	trust, err := g.trust()
	if err != nil {
		return err
	}
	early := &kernel.Early{Modules: g.Target.Kernel.EarlyModules, Tree: g.tree}
	g.base = &Initrd{
		Files: &FilesBlock{
			Epoch: g.Epoch, Target: g.Target.Name, Derived: derived(g.Target, g.Debug), Platform: g.platform(), Trust: trust, Root: g.Root, Tools: g.toolbox,
			Release: g.Release, Packages: g.Parts.Names(debian.Requests(g.Target)),
		},
		Modules: &ModulesBlock{Epoch: g.Epoch, X86: g.x86(), Early: early, Tools: g.toolbox},
		Runtime: &RuntimeBlock{Epoch: g.Epoch, X86: g.x86(), Program: g.program, Tools: g.toolbox},
	}
	g.c.Components["initrd"] = []build.Step{g.base}
	if !g.Debug {
		return nil
	}
	return g.debugAddon()
}

func (g *grower) debugAddon() error {
	r, err := g.request(debian.ContainersRequest)
	if err != nil {
		return fault.Wrap(fault.Unsupported, err, "adding the debug shell (PANTAVISOR_DEBUG)")
	}
	pkg, err := g.Parts.Fetch(r, "busybox-static")
	if err != nil {
		return err
	}
	shell := &DebugAddon{Epoch: g.Epoch, X86: g.x86(), Busybox: &debian.Unpack{Keep: []string{"bin/"}, Package: pkg}, Tools: g.toolbox}
	g.addons = []Addon{{Artefact{shell, DebugAddonFile}, DebugAddonFile}}
	g.c.Components["initrd"] = append(g.c.Components["initrd"], shell)
	return nil
}

// trust collects what signatures are checked against: the option, else the tree's.
func (g *grower) trust() ([]Trust, error) {
	given := map[string]string{"ca-certificates.crt": g.TrustCertificates, "pub.pem": g.TrustKey}
	var out []Trust
	for _, name := range []string{"ca-certificates.crt", "ca-oem-certificates.crt", "pub.pem"} {
		file := given[name]
		if file == "" {
			if file = filepath.Join(g.Root, "ca/pvs", name); !exists(file) {
				continue
			}
		}
		if err := checkPEM(file); err != nil {
			return nil, err
		}
		out = append(out, Trust{name, file})
	}
	return out, nil
}

func checkPEM(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fault.New(fault.Missing, "reading what signatures are checked against (PV_PVS_CERT_PEM, PV_PVS_PUB_PEM): %w", err)
	}
	if strings.Contains(string(text), "PRIVATE KEY-----") {
		return fault.New(fault.BadInput, "reading %s: it holds a private key, which must not go into an image", file)
	}
	if !strings.Contains(string(text), "-----BEGIN ") {
		return fault.New(fault.BadInput, "reading %s: it holds no PEM block", file)
	}
	return nil
}

func (g *grower) bsp() error {
	if g.tree == nil {
		return nil
	}
	image := &kernel.Image{Tree: g.tree}
	modules := &kernel.Modules{Epoch: g.Epoch, Tree: g.tree}
	g.c.Components["kernel"] = []build.Step{image, modules, &kernel.ConfigCheck{Tree: g.tree}}
	g.part = &BSP{
		Target: g.Target.Name, Release: g.Release, Epoch: g.Epoch,
		Kernel: Artefact{image, kernel.ImageFile}, Initrd: Artefact{g.base, BaseInitrd}, Addons: g.addons,
		Modules: &Artefact{modules, kernel.ModulesFile},
	}
	if err := g.firmware(); err != nil {
		return err
	}
	export := &Export{Epoch: g.Epoch, Part: g.part}
	g.c.Components["bsp"] = []build.Step{export}
	g.c.Artefacts = append(g.c.Artefacts, build.Artefact{Step: export, From: ExportFile, To: g.Target.Name + ".pvr.tgz"})
	return nil
}

func (g *grower) firmware() error {
	f := g.Target.Kernel.Firmware
	if f == nil {
		return nil
	}
	r, err := g.request(debian.FirmwareRequest)
	if err != nil {
		return err
	}
	all, err := g.Parts.All(r)
	if err != nil {
		return err
	}
	var packages []*debian.Unpack
	for _, p := range all {
		packages = append(packages, &debian.Unpack{Keep: kernel.FirmwarePaths, Package: p})
	}
	step := &kernel.Firmware{Epoch: g.Epoch, Tree: g.tree, Packages: packages, Budget: f.Budget, Exclude: f.Exclude}
	g.part.Firmware = &Artefact{step, kernel.FirmwareFile}
	g.c.Components["kernel"] = append(g.c.Components["kernel"], step)
	return nil
}

func (g *grower) loader() error {
	if g.Target.Bootloader == nil || g.Target.Image == nil {
		return nil
	}
	if g.Target.Bootloader.Type != "grub" {
		return fault.New(fault.Unsupported, "boot loader %q is not supported, only grub is", g.Target.Bootloader.Type)
	}
	root := storagePartition(g.Target)
	if root == nil {
		return fault.New(fault.BadInput, "no partition has the role root")
	}
	r, err := g.request(debian.BootloaderRequest)
	if err != nil {
		return err
	}
	pkg, err := g.Parts.Fetch(r, g.Target.Bootloader.Packages[0])
	if err != nil {
		return err
	}
	var arguments []string
	if g.Target.Kernel != nil {
		arguments = g.Target.Kernel.Arguments
	}
	g.boot, err = grub.New(grub.Settings{RootLabel: root.Name, Arguments: arguments, Timeout: g.Target.Bootloader.Timeout}, pkg, g.toolbox)
	return err
}

func (g *grower) trail() error {
	if g.Target.Image == nil && g.Target.AppEngine == nil {
		return nil
	}
	g.storage = &Trail{
		Platform: g.platform(), AppEngine: g.Target.AppEngine != nil,
		Parts: []build.Step{&Device{Root: g.Root}}, Root: g.Root,
	}
	if g.part != nil {
		g.storage.Parts = append(g.storage.Parts, g.part)
	}
	apps, err := g.apps()
	if err != nil {
		return err
	}
	g.storage.Parts = append(g.storage.Parts, apps...)
	switch {
	case g.boot != nil:
		g.storage.Boot = g.boot.Root()
	case g.Target.AppEngine != nil:
		g.storage.Boot = &UbootStore{}
	}
	g.c.Components["trail"] = []build.Step{g.storage}
	return nil
}

// apps are the containers of revision 0: the reference device's, or the target's
// own.
func (g *grower) apps() ([]build.Step, error) {
	if strings.Contains(g.MergeSource, "://") {
		return nil, fault.New(fault.Unsupported, "PVR_MERGE_SRC=%s: a reference device is not fetched; clone it (pvr clone) and name the folder .pvr, or an export", g.MergeSource)
	}
	if g.MergeSource != "" {
		abs, err := filepath.Abs(g.MergeSource)
		return []build.Step{&Reference{BSP: g.UseSourceBSP, Path: abs}}, err
	}
	parts, err := containers.Parts(g.Target, containers.Options{
		Epoch:    g.Epoch,
		Dir:      filepath.Join(g.Root, "containers"),
		Program:  func(pkg string) containers.Builder { return g.programOf(pkg) },
		Packages: g.containerPackage,
	})
	var out []build.Step
	for _, p := range parts {
		out = append(out, p)
	}
	return out, err
}

func (g *grower) programOf(pkg string) *gobinary.Step {
	if path.Clean(pkg) == g.program.Package {
		return g.program
	}
	return gobinary.New(g.Module, path.Clean(pkg), g.Target.Arch)
}

func (g *grower) containerPackage(name string) (*debian.Fetch, error) {
	r, err := g.request(debian.ContainersRequest)
	if err != nil {
		return nil, err
	}
	return g.Parts.Fetch(r, name)
}

func (g *grower) image() error {
	if g.Target.Image == nil || g.boot == nil {
		return nil
	}
	disk := &Disk{
		Target: g.Target.Name, Platform: g.platform(), Image: g.Target.Image, Epoch: g.Epoch,
		Boot: g.boot.Boot(), Storage: g.storage, Tools: g.toolbox, Root: g.Root,
	}
	name := fmt.Sprintf("%s-pv-%dMiB.img", g.Target.Name, g.Target.Image.Size)
	g.c.Components["image"] = []build.Step{disk}
	g.c.Artefacts = append(g.c.Artefacts,
		build.Artefact{Step: disk, From: DiskFile, To: name},
		build.Artefact{Step: disk, From: BmapFile, To: name + ".bmap"})
	return nil
}

// appEngine packs the runtime for a Linux that is set up already.
func (g *grower) appEngine() error {
	if g.Target.AppEngine == nil {
		return nil
	}
	trust, err := g.trust()
	if err != nil {
		return err
	}
	pack := &AppEngine{
		Target: g.Target.Name, Release: g.Release, Packages: g.Parts.Names(debian.Requests(g.Target)),
		Platform: g.platform(), Trust: trust, Epoch: g.Epoch, Program: g.program, Storage: g.storage, Root: g.Root,
	}
	g.c.Components["image"] = []build.Step{pack}
	g.c.Artefacts = append(g.c.Artefacts, build.Artefact{Step: pack, From: AppEngineFile, To: g.Target.Name + ".tgz"})
	return nil
}

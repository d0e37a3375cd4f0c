package images

import (
	"errors"
	"slices"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/kernel"
)

// Components lists the component targets, each after those that it needs (manual:
// component targets).
var Components = []string{"init", "initrd", "kernel", "bsp", "trail", "image", "sbom"}

// Composition is the graph of steps for the wanted outputs.
type Composition struct {
	// Components maps a component's name to its steps; components for which the inputs
	// lack parts are absent.
	Components map[string][]build.Step
	// Artefacts are the files that `mage build` writes to out/TARGET.
	Artefacts []build.Artefact
	// Outputs are the artefacts of each wanted output, the main one first.
	Outputs map[Output][]build.Artefact
}

// Wanted returns the steps of all artefacts.
func (c *Composition) Wanted() []build.Step {
	var out []build.Step
	for _, a := range c.Artefacts {
		if !slices.Contains(out, a.Step) {
			out = append(out, a.Step)
		}
	}
	return out
}

// Compose makes the steps for the inputs and runs none. It is an error if the inputs do
// not suffice for the wanted outputs.
func Compose(in *Inputs) (*Composition, error) {
	if err := errors.Join(in.check(), in.Config.check()); err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "planning target %s", in.Target)
	}
	c := &composer{in: in, Composition: &Composition{
		Components: map[string][]build.Step{"init": {in.Runtime.Step}}, Outputs: map[Output][]build.Artefact{},
	}}
	if c.bsp = in.BSP(); c.bsp != nil {
		c.kernel()
	}
	for _, o := range outputs {
		if !in.wants(o.name) {
			continue
		}
		made, err := o.compose(c)
		if err != nil {
			return nil, err
		}
		c.Components[o.component] = []build.Step{made[0].Step}
		c.Outputs[o.name] = made
		c.Artefacts = append(c.Artefacts, made...)
	}
	if len(c.Artefacts) > 0 {
		c.statements()
		c.bill()
	}
	return c.Composition, nil
}

// check checks that the runtime's configuration does not contradict what follows from the
// target, the label of the storage for example.
func (c *Config) check() error {
	if c.Runtime.Path == "" {
		return nil
	}
	_, err := runtimeConfig(c.Runtime, c.Derived)
	return err
}

func (in *Inputs) wants(o Output) bool { return slices.Contains(in.Outputs, o) }

// composer is a composition in the making.
type composer struct {
	*Composition
	in      *Inputs
	bsp     *BSP   // nil: the inputs have no kernel
	storage *Trail // nil: no output needs revision 0 so far
}

// kernel adds initrd and kernel.
func (c *composer) kernel() {
	c.Components["initrd"] = stepsOf(c.in.Initrd())
	c.Components["kernel"] = []build.Step{c.in.Kernel.Image.Step, c.bsp.Modules.Step, &kernel.ConfigCheck{Tree: c.bsp.KernelTree}}
	if f := c.bsp.Firmware; f != nil {
		c.Components["kernel"] = append(c.Components["kernel"], f.Step)
	}
}

// BSP returns the step with the BSP, always the same one; nil without a kernel.
func (in *Inputs) BSP() *BSP {
	if in.bsp != nil || in.Kernel == nil {
		return in.bsp
	}
	initrd, tree := in.Initrd(), in.Kernel.Tree.Step
	modules := &kernel.Modules{Epoch: in.Epoch, Tree: tree}
	bsp := &BSP{
		Target: in.Target, Release: in.Release, Pipeline: in.Pipeline, Epoch: in.Epoch,
		Board: in.Board, Support: in.Support, KernelTree: tree,
		DeviceTrees: in.Kernel.DeviceTrees,
		Kernel:      in.Kernel.Image, Initrd: initrd[0], Addons: in.Addons,
		Modules: &Artefact{modules, kernel.ModulesFile}, Boot: slotImage(in),
	}
	if in.Kernel.FIT != nil {
		bsp.FIT = in.FIT()
	}
	if f := in.Kernel.Firmware; f != nil {
		step := &kernel.Firmware{Epoch: in.Epoch, Tree: tree, Packages: stepsOf(f.Trees), Budget: f.Budget, Exclude: f.Exclude}
		bsp.Firmware = &Artefact{step, kernel.FirmwareFile}
	}
	in.bsp = bsp
	return bsp
}

func stepsOf(list []Artefact) []build.Step {
	var out []build.Step
	for _, a := range list {
		out = append(out, a.Step)
	}
	return out
}

// Initrd returns the archives of the initrd in the order of loading: the base, then the
// addons. There must be a kernel.
func (in *Inputs) Initrd() []Artefact {
	out := []Artefact{{initrdOf(in), baseInitrd}}
	for _, a := range in.Addons {
		out = append(out, a.From)
	}
	return out
}

// FIT returns the file that has kernel, initrd and device trees; nil when there is none.
func (in *Inputs) FIT() *Artefact {
	k := in.Kernel
	if k == nil || k.FIT == nil {
		return nil
	}
	step := &FIT{FITForm: *k.FIT, Target: in.Target, Epoch: in.Epoch, Image: k.Image, Initrd: in.Initrd(), Trees: k.DeviceTrees}
	return &Artefact{step, fitName}
}

func initrdOf(in *Inputs) *Initrd {
	early := &kernel.Early{Modules: in.Kernel.EarlyModules, Tree: in.Kernel.Tree.Step}
	return &Initrd{
		Files: &FilesBlock{
			Epoch: in.Epoch, Target: in.Target, Derived: in.Config.Derived, Config: in.Config.Runtime, Defaults: in.Config.Defaults,
			Skel: in.Config.Skel, Trust: trustOf(in), Release: in.Release, Packages: in.Packages,
		},
		Modules: &ModulesBlock{Epoch: in.Epoch, X86: in.X86, Early: early},
		Runtime: &RuntimeBlock{Epoch: in.Epoch, X86: in.X86, Program: in.Runtime},
	}
}

func trustOf(in *Inputs) []Trust {
	var out []Trust
	for _, s := range in.Config.Trust {
		out = append(out, Trust{Name: s.Name, Path: s.Path})
	}
	return out
}

// trail returns the storage with revision 0, the same step for every output.
func (c *composer) trail() *Trail {
	if c.storage == nil {
		c.storage = c.revision0()
		c.Components["trail"] = []build.Step{c.storage}
	}
	return c.storage
}

// revision0 makes revision 0: device.json, the BSP and the containers, each with its bill of materials.
func (c *composer) revision0() *Trail {
	in := c.in
	storage := &Trail{
		Distinct:  in.Distinct,
		AppEngine: in.wants(OutputAppEngine), Hub: in.Config.Hub, FactoryToken: in.FactoryToken, Stepskel: in.Config.Stepskel,
		Parts: []build.Step{&Device{Defaults: in.Config.Defaults}},
	}
	var parts []build.Step
	if c.bsp != nil {
		parts = append(parts, c.bsp)
	}
	for _, p := range append(parts, stepsOf(in.Containers)...) {
		storage.Parts = append(storage.Parts, p, in.SBOMOf(p))
	}
	if in.Loader.State != nil {
		storage.Boot = in.Loader.State.Step
	}
	storage.Signer = in.Signer
	return storage
}

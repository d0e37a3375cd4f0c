package images

import (
	"cmp"
	"context"
	"encoding/json"
	"path"
	"path/filepath"
	"slices"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/kernel"
	"github.com/pantavisor/pantavisor/revision/compat"
	"github.com/pantavisor/pantavisor/revision/fragment"
	"github.com/pantavisor/pantavisor/sbom"
)

// Artefact is a file in another step's output, or the whole output.
type Artefact struct {
	Step build.Step
	// File is a path with slashes; empty for the whole output.
	File string
}

func (a Artefact) in(w *build.Work) string {
	return filepath.Join(w.In(a.Step), filepath.FromSlash(a.File))
}

// BSP is the step that makes the part "bsp" of a state: kernel, initrd, addons,
// modules and firmware with bsp/run.json (manual: Pantavisor State Format, bsp).
type BSP struct {
	// Target and Release are for build.json.
	Target, Release string
	// Pipeline is for build.json too.
	Pipeline Pipeline `json:",omitzero"`
	// Epoch is the time in build.json.
	Epoch build.Stamp
	// Board is for run.json; without a name nothing is said of it.
	Board Board `json:",omitzero"`
	// Support is for build.json; nothing is said of what it leaves out.
	Support sbom.Support `json:",omitzero"`
	// Drivers is drivers.json. Default: see [defaultDrivers].
	Drivers json.RawMessage `json:",omitempty"`

	// DeviceTrees are those of the kernel.
	DeviceTrees []DeviceTree `json:"-"`

	// Boot is an image in place of kernel, initrd, addons and device trees; nil for none.
	Boot *SlotImage `json:"-"`
	// FIT has kernel, initrd with addons, and device trees; nil when they are files of their
	// own.
	FIT *Artefact `json:"-"`

	// KernelTree is the step of the kernel's tree, whose release is in run.json; nil when Board
	// has no name.
	KernelTree build.Step `json:"-"`

	Kernel   Artefact  `json:"-"`
	Initrd   Artefact  `json:"-"`
	Addons   []Addon   `json:"-"`
	Modules  *Artefact `json:"-"` // nil: the BSP has none
	Firmware *Artefact `json:"-"`
}

// Addon is an archive that is loaded after the base initrd.
type Addon struct {
	From Artefact `json:"from"`
	// Name in the BSP, "addon-NAME.cpio.xz4".
	Name string `json:"name"`
}

// Names in the BSP.
const (
	kernelName   = "kernel.img"
	initrdName   = "pantavisor"
	modulesName  = "modules.squashfs"
	firmwareName = "firmware.squashfs"
)

// defaultDrivers are the driver aliases that every board has.
const defaultDrivers = `{"#spec":"driver-aliases@1","all":{"usb-gadget":["libcomposite","usb_f_ncm"],"wireguard":["wireguard"]},"dtb:all":{}}`

var (
	_ build.Step      = (*BSP)(nil)
	_ build.Versioned = (*BSP)(nil)
	_ build.Replacing = (*BSP)(nil)
	_ keyed           = (*BSP)(nil)
)

// Name of the step.
func (s *BSP) Name() string { return "bsp/part" }

// Version of the step's logic.
func (s *BSP) Version() int { return 4 }

// Deps are the steps of all files.
func (s *BSP) Deps() []build.Step {
	var out []build.Step
	for _, f := range s.files() {
		out = append(out, f.from.Step)
	}
	if s.KernelTree != nil {
		out = append(out, s.KernelTree)
	}
	return out
}

type bspFile struct {
	name string
	from Artefact
}

// files returns the BSP's objects in a fixed order.
func (s *BSP) files() []bspFile {
	out := s.bootFiles()
	if s.Modules != nil {
		out = append(out, bspFile{modulesName, *s.Modules})
	}
	if s.Firmware != nil {
		out = append(out, bspFile{firmwareName, *s.Firmware})
	}
	return out
}

// bootFiles returns what the boot loader starts.
func (s *BSP) bootFiles() []bspFile {
	switch {
	case s.Boot != nil:
		return []bspFile{{s.Boot.Slot.File, Artefact{s.Boot, s.Boot.Slot.File}}}
	case s.FIT != nil:
		return []bspFile{{fitName, *s.FIT}}
	}
	out := []bspFile{{kernelName, s.Kernel}, {initrdName, s.Initrd}}
	for _, a := range s.Addons {
		out = append(out, bspFile{a.Name, a.From})
	}
	for _, d := range s.DeviceTrees {
		out = append(out, bspFile{s.treeName(d), d.From})
	}
	return out
}

// treesDir is the directory of the device trees in a BSP that has several.
const treesDir = "dtbs"

// treeName returns the name of a device tree in the BSP: a single one is at the top, as
// run.json's fdt has it; of several the boot loader picks one by its path.
func (s *BSP) treeName(d DeviceTree) string {
	if len(s.DeviceTrees) == 1 && d.Name == s.DeviceTrees[0].Name {
		return path.Base(d.Name)
	}
	return path.Join(treesDir, d.Name)
}

// Run adds the files and writes the JSON members.
func (s *BSP) Run(ctx context.Context, w *build.Work) error {
	p, err := fragment.Create(w.Out)
	if err != nil {
		return err
	}
	for _, f := range s.files() {
		if err := p.AddObject(ctx, path.Join("bsp", f.name), f.from.in(w)); err != nil {
			return err
		}
	}
	var provided []string
	if s.KernelTree != nil {
		if provided, err = s.providedBy(w.In(s.KernelTree)); err != nil {
			return err
		}
	}
	for name, value := range s.documents(provided...) {
		text, err := json.Marshal(value)
		if err != nil {
			return fault.Wrap(fault.BadInput, err, "writing bsp/%s", name)
		}
		if err := p.AddValue("bsp/"+name, text); err != nil {
			return err
		}
	}
	return p.Close()
}

// providedBy returns what the BSP provides with the kernel of a tree.
func (s *BSP) providedBy(tree string) ([]string, error) {
	release, err := kernel.Release(tree)
	if err != nil {
		return nil, err
	}
	out := []string{compat.Arch + ":" + s.Board.Arch, compat.Board + ":" + s.Board.Name}
	if version := compat.Kernel + "=" + release; compat.Valid(version) {
		out = append(out, version)
	}
	return slices.Concat(out, s.Board.Provides), nil
}

// documents returns the JSON members; provided is what the BSP provides.
func (s *BSP) documents(provided ...string) map[string]any {
	drivers := s.Drivers
	if drivers == nil {
		drivers = json.RawMessage(defaultDrivers)
	}
	return map[string]any{
		"run.json":     s.run(provided),
		"drivers.json": drivers,
		"build.json":   s.build(),
		"src.json":     map[string]string{"#spec": "bsp-manifest-src@1", "pvr": ""},
	}
}

// build returns build.json, with every member that the manual documents, and of Support what is
// known. Its pvr is the one of this module.
func (s *BSP) build() map[string]string {
	out := map[string]string{
		"altrepogroups": "", "branch": s.Pipeline.Branch, "commit": s.Pipeline.Commit, "gitdescribe": s.Release,
		"pipeline": s.Pipeline.ID, "platform": s.Target, "project": cmp.Or(s.Pipeline.Project, "pantavisor"),
		"pvrversion": "pvr version " + cmp.Or(s.Release, "devel"), "target": s.Target,
		"time": s.Epoch.Time().UTC().Format("2006-01-02 15:04:05 -0700"),
	}
	for member, text := range map[string]string{"support_end": s.Support.End, "security_contact": s.Support.Contact, "manufacturer": s.Support.Manufacturer} {
		if text != "" {
			out[member] = text
		}
	}
	return out
}

// Keys are the keys of the state.
func (s *BSP) Keys() []string {
	var out []string
	for _, f := range s.files() {
		out = append(out, path.Join("bsp", f.name))
	}
	for name := range s.documents() {
		out = append(out, path.Join("bsp", name))
	}
	return out
}

// named is an archive of the initrd whose files are known.
type named interface {
	names(ctx context.Context, in func(build.Step) string) ([]string, error)
}

// Replaces lists the files of the initrd that addons replace: the kernel unpacks them over
// those of the archives before.
func (s *BSP) Replaces(ctx context.Context, in func(build.Step) string) ([]build.Replacement, error) {
	if s.FIT != nil {
		return nil, nil // the step of the FIT lists them
	}
	archives := []build.Step{s.Initrd.Step}
	for _, a := range s.Addons {
		archives = append(archives, a.From.Step)
	}
	return replacedByAddons(ctx, in, archives)
}

// replacedByAddons lists the files of the first archive that the others replace.
func replacedByAddons(ctx context.Context, in func(build.Step) string, archives []build.Step) ([]build.Replacement, error) {
	if len(archives) == 1 {
		return nil, nil
	}
	var over build.Overlay
	for _, step := range archives {
		archive, ok := step.(named)
		if !ok {
			continue
		}
		names, err := archive.names(ctx, in)
		if err != nil {
			return nil, fault.Wrap(fault.IO, err, "listing %s", step.Name())
		}
		for _, name := range names {
			over.Add(name, step.Name())
		}
	}
	return over.Replaced(), nil
}

// run returns run.json; provided is what the BSP provides.
func (s *BSP) run(provided []string) map[string]any {
	run := s.bootForm()
	for member, list := range map[string][]string{"provides": provided, "requires": s.Board.Requires, "conflicts": s.Board.Conflicts} {
		if len(list) > 0 {
			run[member] = list
		}
	}
	if s.Modules != nil {
		run["modules"] = modulesName
	}
	if s.Firmware != nil {
		run["firmware"] = firmwareName
	}
	return run
}

// bootForm returns the members of run.json that say what the boot loader starts.
func (s *BSP) bootForm() map[string]any {
	switch {
	case s.Boot != nil:
		return map[string]any{s.Boot.Slot.Key: s.Boot.Slot.File, "addons": []string{}, "initrd_config": ""}
	case s.FIT != nil:
		return map[string]any{"fit": fitName, "addons": []string{}, "initrd_config": ""}
	}
	addons := []string{}
	for _, a := range s.Addons {
		addons = append(addons, a.Name)
	}
	run := map[string]any{"addons": addons, "linux": kernelName, "initrd": initrdName, "initrd_config": ""}
	if len(s.DeviceTrees) == 1 {
		run["fdt"] = s.treeName(s.DeviceTrees[0])
	}
	return run
}

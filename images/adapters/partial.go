package adapters

import (
	"path/filepath"

	"github.com/pantavisor/pantavisor/images/inputs"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/yamlfile"
	"github.com/pantavisor/pantavisor/targets"
)

// partial is what a build system does not know: a list of inputs (docs/pvcompose.md) whose fields
// may all be left out. An adapter adds what was built. Relative paths begin at the directory of
// its file.
type partial struct {
	Target     string             `yaml:"target,omitempty" json:"target,omitempty"`
	Release    string             `yaml:"release,omitempty" json:"release,omitempty"`
	Epoch      int64              `yaml:"epoch,omitempty" json:"epoch,omitempty" jsonschema:"minimum=0,maximum=4294967295"`
	Arch       *targets.Arch      `yaml:"arch,omitempty" json:"arch,omitempty"`
	Outputs    []string           `yaml:"outputs,omitempty" json:"outputs,omitempty"`
	Board      *inputs.Board      `yaml:"board,omitempty" json:"board,omitempty"`
	Pipeline   *inputs.Pipeline   `yaml:"pipeline,omitempty" json:"pipeline,omitempty"`
	Packages   []string           `yaml:"packages,omitempty" json:"packages,omitempty"`
	Runtime    *inputs.File       `yaml:"runtime,omitempty" json:"runtime,omitempty"`
	Kernel     *partialKernel     `yaml:"kernel,omitempty" json:"kernel,omitempty"`
	Addons     []inputs.Addon     `yaml:"addons,omitempty" json:"addons,omitempty"`
	Containers []partialContainer `yaml:"containers,omitempty" json:"containers,omitempty"`
	Exports    []inputs.File      `yaml:"exports,omitempty" json:"exports,omitempty"`
	Config     *inputs.Config     `yaml:"config,omitempty" json:"config,omitempty"`
	Images     targets.Images     `yaml:"image,omitempty" json:"image,omitempty"`
	Bootloader *inputs.Bootloader `yaml:"bootloader,omitempty" json:"bootloader,omitempty"`
	Installer  *inputs.Installer  `yaml:"installer,omitempty" json:"installer,omitempty"`
	Tezi       *inputs.Tezi       `yaml:"tezi,omitempty" json:"tezi,omitempty"`
	Signing    *inputs.Signing    `yaml:"signing,omitempty" json:"signing,omitempty"`
	SBOM       []inputs.Named     `yaml:"sbom,omitempty" json:"sbom,omitempty"`
}

// partialKernel is what a build system does not know of its kernel.
type partialKernel struct {
	Config       *inputs.File     `yaml:"config,omitempty" json:"config,omitempty"`
	Release      string           `yaml:"release,omitempty" json:"release,omitempty"`
	DeviceTrees  []inputs.Named   `yaml:"device_trees,omitempty" json:"device_trees,omitempty"`
	Overlays     []inputs.Named   `yaml:"overlays,omitempty" json:"overlays,omitempty"`
	Format       string           `yaml:"format,omitempty" json:"format,omitempty" jsonschema:"enum=FIT"`
	Arguments    []string         `yaml:"arguments,omitempty" json:"arguments,omitempty"`
	EarlyModules []string         `yaml:"early_modules,omitempty" json:"early_modules,omitempty"`
	Firmware     *inputs.Firmware `yaml:"firmware,omitempty" json:"firmware,omitempty"`
}

// partialContainer is a container of the list; without a root file system it says more of the
// container with the same name that a build system has made.
type partialContainer struct {
	Name        string            `yaml:"name" json:"name"`
	Root        *inputs.Tree      `yaml:"root,omitempty" json:"root,omitempty"`
	Compression string            `yaml:"compression,omitempty" json:"compression,omitempty" jsonschema:"enum=zstd,enum=xz,enum=gzip"`
	Block       targets.Size      `yaml:"block,omitempty" json:"block,omitempty"`
	Exclude     []string          `yaml:"exclude,omitempty" json:"exclude,omitempty"`
	Verity      bool              `yaml:"verity,omitempty" json:"verity,omitempty"`
	Entrypoint  []string          `yaml:"entrypoint,omitempty" json:"entrypoint,omitempty"`
	Command     []string          `yaml:"command,omitempty" json:"command,omitempty"`
	Env         []string          `yaml:"env,omitempty" json:"env,omitempty"`
	WorkingDir  string            `yaml:"working_dir,omitempty" json:"working_dir,omitempty"`
	User        string            `yaml:"user,omitempty" json:"user,omitempty"`
	Args        map[string]any    `yaml:"args,omitempty" json:"args,omitempty"`
	Persistence map[string]string `yaml:"persistence,omitempty" json:"persistence,omitempty"`
	Config      *inputs.File      `yaml:"config,omitempty" json:"config,omitempty"`
	Services    *inputs.File      `yaml:"services,omitempty" json:"services,omitempty"`
	MDEV        *inputs.File      `yaml:"mdev,omitempty" json:"mdev,omitempty"`
	Network     *inputs.File      `yaml:"network,omitempty" json:"network,omitempty"`
	Overlay     *inputs.Directory `yaml:"overlay,omitempty" json:"overlay,omitempty"`
}

var partialKind = yamlfile.Kind{Name: "a partial list of inputs", Text: targets.CheckValue, Limit: maxList}

// maxList bounds the file of a list, in bytes.
const maxList = 1 << 20

// readPartial reads a partial list, and returns it as a list with absolute paths and the
// containers that have no root file system of their own, by their names.
func readPartial(file string) (*inputs.List, map[string]inputs.Container, error) {
	text, err := bounded.ReadRegular(file, maxList)
	if err != nil {
		return nil, nil, fault.Wrap(fault.BadInput, err, "reading the partial list of inputs")
	}
	dir, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return nil, nil, fault.Wrap(fault.IO, err, "reading the partial list of inputs")
	}
	p := &partial{}
	f, _ := yamlfile.Read(file, partialKind, text, p)
	if err := f.Err(); err != nil {
		return nil, nil, err
	}
	l, more := p.list()
	l.Absolute(dir)
	for _, c := range more {
		one := inputs.List{Containers: []inputs.Container{c}}
		one.Absolute(dir)
		more[c.Name] = one.Containers[0]
	}
	return l, more, nil
}

func (p *partial) list() (*inputs.List, map[string]inputs.Container) {
	l := &inputs.List{
		Spec: inputs.Spec, Target: p.Target, Release: p.Release, Epoch: p.Epoch, Outputs: p.Outputs, Board: p.Board, Pipeline: p.Pipeline,
		Packages: p.Packages, Runtime: p.Runtime, Addons: p.Addons, Exports: p.Exports, Images: p.Images, Bootloader: p.Bootloader,
		Installer: p.Installer, Tezi: p.Tezi, Signing: p.Signing, SBOM: p.SBOM,
	}
	if p.Arch != nil {
		l.Arch = *p.Arch
	}
	if p.Config != nil {
		l.Config = *p.Config
	}
	if k := p.Kernel; k != nil {
		l.Kernel = &inputs.Kernel{
			Config: k.Config, Release: k.Release, DeviceTrees: k.DeviceTrees, Overlays: k.Overlays, Format: k.Format,
			Arguments: k.Arguments, EarlyModules: k.EarlyModules, Firmware: k.Firmware,
		}
	}
	more := map[string]inputs.Container{}
	for _, c := range p.Containers {
		full := c.container()
		if c.Root == nil {
			more[c.Name] = full
			continue
		}
		l.Containers = append(l.Containers, full)
	}
	return l, more
}

func (c *partialContainer) container() inputs.Container {
	out := inputs.Container{
		Name: c.Name, Compression: c.Compression, Block: c.Block, Exclude: c.Exclude, Verity: c.Verity, Entrypoint: c.Entrypoint,
		Command: c.Command, Env: c.Env, WorkingDir: c.WorkingDir, User: c.User, Args: c.Args, Persistence: c.Persistence,
		Config: c.Config, Services: c.Services, MDEV: c.MDEV, Network: c.Network, Overlay: c.Overlay,
	}
	if c.Root != nil {
		out.Root = *c.Root
	}
	return out
}

// Package ubootflash makes a U-Boot start Pantavisor that can read neither file systems nor
// disks: kernel and initrd are legacy images in raw partitions of memory-mapped NOR flash,
// and what others have as a boot script is U-Boot's environment, in the flash too.
//
// Partitions with the format raw have these names: kernel, initrd, uboot-env (U-Boot's
// environment, which is only read) and pv-env. The runtime erases and writes the two copies that
// pv-env has (package ubootstate) with pv_rev and pv_try; U-Boot writes a mark behind them when it
// starts pv_try, in place of pv_trying.
// There is one kernel: an update that replaces the BSP is not started by it.
package ubootflash

import (
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/pantavisor/pantavisor/bootloader"
	"github.com/pantavisor/pantavisor/bootloader/uboot"
	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/formats/ubootenv"
	"github.com/pantavisor/pantavisor/formats/ubootstate"
	"github.com/pantavisor/pantavisor/formats/uimage"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/trail"
	"github.com/pantavisor/pantavisor/targets"
)

// Names of the partitions.
const (
	kernelPartition = "kernel"
	initrdPartition = "initrd"
	envPartition    = "uboot-env"
	statePartition  = "pv-env"
)

// Files in the outputs of the steps.
const (
	envFile    = "uboot-env.bin"
	stateFile  = "pv-env.bin"
	initrdFile = "initrd.uimg"
)

// Loader is such a U-Boot for one target.
type Loader struct{ target *targets.Target }

var _ bootloader.Loader = (*Loader)(nil)

// New returns the loader for a target with a boot loader.
func New(t *targets.Target) bootloader.Loader { return &Loader{t} }

// Requests lists the packages of its blobs.
func (l *Loader) Requests() []debian.Request { return bootloader.Packages(l.target) }

// Files returns nil: nothing is in a file system.
func (l *Loader) Files(string, bootloader.Kit) (build.Step, error) { return nil, nil }

// State returns the step with the first state on the storage.
func (l *Loader) State() build.Step { return &uboot.State{} }

// Raw returns kernel, initrd and environment. A target without their partitions, or whose
// kernel is not a uImage, is bad input.
func (l *Loader) Raw(k bootloader.Kit) ([]bootloader.Blob, error) {
	if k.BSP == nil {
		return nil, fault.New(fault.Unsupported, "placing the kernel in flash: the BSP is that of a reference device (PVR_USE_SRC_BSP)")
	}
	if l.target.Kernel.Format != uboot.LegacyKernel {
		return nil, fault.New(fault.BadInput, "placing the kernel in flash: U-Boot starts a uImage; say kernel.format: uImage")
	}
	s, err := l.settings()
	if err != nil {
		return nil, err
	}
	initrd := &Initrd{Arch: uboot.CPU(l.target.Arch.Go), Archives: k.BSP.Initrd}
	env := &Environment{Settings: s, Initrd: initrd}
	return []bootloader.Blob{
		{Name: kernelPartition, Partition: kernelPartition, File: k.BSP.Kernel},
		{Name: initrdPartition, Partition: initrdPartition, File: bootloader.File{Step: initrd, Path: initrdFile}},
		{Name: envPartition, Partition: envPartition, File: bootloader.File{Step: env, Path: envFile}},
		{Name: statePartition, Partition: statePartition, File: bootloader.File{Step: env, Path: stateFile}},
	}, nil
}

// settings are those of the target's environment.
func (l *Loader) settings() (Settings, error) {
	s := Settings{Arguments: l.target.Kernel.Arguments, BigEndian: l.target.Arch.Go == "mips"}
	a := l.target.Bootloader.Addresses
	if a == nil || a.Flash == 0 || a.Initrd == 0 {
		return s, fault.New(fault.BadInput, "placing the kernel in flash: bootloader.addresses needs flash, where U-Boot sees the flash, and initrd, where the initrd goes in memory")
	}
	base := uint64(a.Flash)
	s.Memory = uint64(a.Initrd)
	for name, to := range map[string]*uint64{kernelPartition: &s.Kernel, initrdPartition: &s.Initrd, statePartition: &s.State, envPartition: nil} {
		p := l.partition(name)
		switch {
		case p == nil || p.Format != "raw":
			return s, fault.New(fault.BadInput, "placing the kernel in flash: image.partitions has no %s with the format raw", name)
		case to == nil:
			s.Size = int(p.Size)
		default:
			*to = base + uint64(p.Start)
		}
		if name == statePartition {
			s.Second = s.State + uint64(p.Size/2)
		}
	}
	return s, nil
}

func (l *Loader) partition(name string) *targets.Partition {
	for _, im := range l.target.Images {
		if i := slices.IndexFunc(im.Partitions, func(p targets.Partition) bool { return p.Name == name }); i >= 0 {
			return &im.Partitions[i]
		}
	}
	return nil
}

// Environment is the step that makes U-Boot's environment and the first state of the
// handshake.
type Environment struct {
	Settings Settings
	Initrd   build.Step `json:"-"`
}

var (
	_ build.Step      = (*Environment)(nil)
	_ build.Versioned = (*Environment)(nil)
)

// Name is "uboot-flash/environment".
func (e *Environment) Name() string { return "uboot-flash/environment" }

// Version of the step's logic.
func (e *Environment) Version() int { return 2 }

// Deps is the initrd.
func (e *Environment) Deps() []build.Step { return []build.Step{e.Initrd} }

// Run writes the two files.
func (e *Environment) Run(_ context.Context, w *build.Work) error {
	initrd, err := os.Stat(filepath.Join(w.In(e.Initrd), initrdFile))
	if err != nil {
		return fault.Wrap(fault.IO, err, "making U-Boot's environment")
	}
	variables, err := e.Settings.variables(initrd.Size() - uimage.HeaderSize)
	if err != nil {
		return err
	}
	var order binary.ByteOrder = binary.LittleEndian
	if e.Settings.BigEndian {
		order = binary.BigEndian
	}
	env, err := ubootenv.Block{Size: e.Settings.Size, Order: order}.Encode(variables, 0)
	if err != nil {
		return fault.Wrap(fault.BadInput, err, "making U-Boot's environment")
	}
	state, err := ubootenv.Encode([]ubootenv.Entry{{Name: "pv_rev", Value: trail.First}, {Name: "pv_try"}})
	if err == nil {
		state, err = ubootstate.Encode(state)
	}
	if err != nil {
		return fault.Wrap(fault.Internal, err, "making U-Boot's values")
	}
	return bootloader.WriteTree(w.Out, map[string][]byte{envFile: env, stateFile: state})
}

// Initrd is the step that joins the archives of the initrd into a legacy image.
type Initrd struct {
	Arch     uimage.Arch
	Archives []bootloader.File `json:"-"`
}

var (
	_ build.Step      = (*Initrd)(nil)
	_ build.Versioned = (*Initrd)(nil)
)

// Name is "uboot-flash/initrd".
func (i *Initrd) Name() string { return "uboot-flash/initrd" }

// Version of the step's logic.
func (i *Initrd) Version() int { return 1 }

// Deps are the archives.
func (i *Initrd) Deps() []build.Step {
	var out []build.Step
	for _, a := range i.Archives {
		out = append(out, a.Step)
	}
	return out
}

// Run writes the image. The sizes of archives are multiples of 4, as the kernel wants them.
func (i *Initrd) Run(_ context.Context, w *build.Work) error {
	archives := &joined{}
	defer archives.close()
	for _, a := range i.Archives {
		if err := archives.open(filepath.Join(w.In(a.Step), filepath.FromSlash(a.Path))); err != nil {
			return fault.Wrap(fault.IO, err, "joining the initrd")
		}
	}
	name := filepath.Join(w.Out, initrdFile)
	out, err := os.Create(name)
	if err != nil {
		return fault.Wrap(fault.IO, err, "joining the initrd")
	}
	defer out.Close()
	h := uimage.Header{Name: "initrd", Arch: i.Arch, Time: build.Epoch}
	if err := uimage.Write(out, uimage.Ramdisk, h, archives.reader()); err != nil {
		return fault.Wrap(fault.IO, err, "joining the initrd")
	}
	if err := out.Close(); err != nil {
		return fault.Wrap(fault.IO, err, "joining the initrd")
	}
	epoch := time.Unix(build.Epoch, 0)
	return fault.Wrap(fault.IO, os.Chtimes(name, epoch, epoch), "joining the initrd")
}

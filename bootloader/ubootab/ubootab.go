// Package ubootab makes a U-Boot that boots Pantavisor from two slots of a flash memory
// (PV_BOOTLOADER_TYPE uboot-ab).
//
// Each slot is a partition with a header that names a revision ([fitslot]) and a FIT. pv_rev
// and pv_try are variables of U-Boot's own environment, which the runtime writes. It writes a
// new revision into the slot that the last good one is not in. U-Boot's bootcmd, which is in
// the environment too, follows the state table of package bootloader; a revision is booted
// from the slot whose header names it. When no slot has what the table says, it boots the slot
// that has another revision, unless that is the one whose test has failed.
//
// In NOR flash the mark of a started test boot is in the header of the slot: U-Boot writes it
// without erasing, so that no power cut can harm the environment, and never clears it. A
// failed test is not repeated until the runtime writes the slot anew. Other flash memory cannot
// be written in place: there the mark is the variable pv_trying, which U-Boot saves with its
// environment.
//
// The environment has all that U-Boot needs: it does not add its defaults to one that is
// valid. With two copies (two partitions with the role env) a power cut while it is written
// leaves the older copy.
package ubootab

import (
	"context"
	"io"
	"os"
	"path/filepath"

	"github.com/pantavisor/pantavisor/bootloader"
	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/formats/fitslot"
	"github.com/pantavisor/pantavisor/formats/ubootenv"
	"github.com/pantavisor/pantavisor/internal/ctxio"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/trail"
	"github.com/pantavisor/pantavisor/targets"
)

// Loader is U-Boot with two slots for one target.
type Loader struct{ target *targets.Target }

var _ bootloader.Loader = (*Loader)(nil)

// New returns the loader for a target with a boot loader.
func New(t *targets.Target) bootloader.Loader { return &Loader{t} }

// Requests lists the packages with blobs and files of the target.
func (l *Loader) Requests() []debian.Request { return bootloader.Packages(l.target) }

// Files returns nothing: there is no partition with files.
func (l *Loader) Files(string, bootloader.Kit) (build.Step, error) { return nil, nil }

// State returns nothing: the state is in U-Boot's environment.
func (l *Loader) State() build.Step { return nil }

// Raw returns the environment, twice when it has two partitions, and the first slot with
// revision 0. The other slot stays empty.
func (l *Loader) Raw(k bootloader.Kit) ([]bootloader.Blob, error) {
	if k.BSP == nil || k.BSP.FIT == nil {
		return nil, fault.New(fault.Unsupported, "filling the slots of U-Boot: there is no FIT of revision 0: kernel.format: FIT makes one; it cannot come from a reference device (PVR_USE_SRC_BSP)")
	}
	settings, copies, err := l.settings()
	if err != nil {
		return nil, err
	}
	variables, err := settings.Variables()
	if err != nil {
		return nil, err
	}
	var out []bootloader.Blob
	for i, p := range copies {
		step := &Environment{Copy: i, Size: int64(p.Size), Redundant: len(copies) > 1, Variables: variables}
		out = append(out, bootloader.Blob{Name: p.Name, File: bootloader.File{Step: step, Path: environmentFile}, Partition: p.Name, Max: int64(p.Size)})
	}
	a := settings.Slots[0]
	step := &SlotImage{Revision: trail.First, FIT: *k.BSP.FIT, Path: k.BSP.FIT.Path}
	return append(out, bootloader.Blob{Name: a.Name, File: bootloader.File{Step: step, Path: slotFile}, Partition: a.Name, Max: a.Size}), nil
}

// settings returns the settings from the target, and the partitions of the environment.
func (l *Loader) settings() (Settings, []targets.Partition, error) {
	var s Settings
	a, b := l.target.Partition("boota"), l.target.Partition("bootb")
	if a == nil || b == nil {
		return s, nil, fault.New(fault.BadInput, "image.partitions: want partitions with the roles boota and bootb: the slots")
	}
	var copies []targets.Partition
	for _, im := range l.target.Images {
		for _, p := range im.Partitions {
			if p.Role == "env" {
				copies = append(copies, p)
			}
		}
	}
	if n := len(copies); n != 1 && n != 2 || n == 2 && copies[0].Size != copies[1].Size {
		return s, nil, fault.New(fault.BadInput, "image.partitions: want one or two partitions of one size with the role env: U-Boot's environment")
	}
	for i, p := range []*targets.Partition{a, b} {
		s.Slots[i] = Slot{Name: p.Name, Offset: int64(p.Start), Size: int64(p.Size)}
	}
	if k := l.target.Kernel; k != nil {
		s.Arguments, s.Trees = k.Arguments, k.DeviceTrees
	}
	if at := l.target.Bootloader.Addresses; at != nil {
		s.Flash, s.Memory = uint64(at.Flash), uint64(at.Initrd)
	}
	return s, copies, nil
}

// Environment is the step that makes a copy of U-Boot's environment.
type Environment struct {
	// Copy is its number, from 0.
	Copy int
	// Size is in bytes.
	Size int64
	// Redundant is set when there are two copies.
	Redundant bool
	Variables []ubootenv.Entry
}

const environmentFile = "env.bin"

var _ build.Step = (*Environment)(nil)

// Name is "uboot-ab/env" and the copy's letter.
func (e *Environment) Name() string { return "uboot-ab/env-" + string(rune('a'+e.Copy)) }

// Deps is empty.
func (e *Environment) Deps() []build.Step { return nil }

// Run writes the copy. The first is the newer one, by either of U-Boot's meanings of the
// mark: 1 is active and more than 0.
func (e *Environment) Run(_ context.Context, w *build.Work) error {
	data, err := ubootenv.Block{Size: int(e.Size), Redundant: e.Redundant}.Encode(e.Variables, byte(1-e.Copy))
	if err != nil {
		return fault.Wrap(fault.BadInput, err, "making U-Boot's environment")
	}
	return bootloader.WriteTree(w.Out, map[string][]byte{environmentFile: data})
}

// SlotImage is the step that makes the content of a slot.
type SlotImage struct {
	// Revision is that in the header.
	Revision string
	// Path is the FIT's in the output of its step.
	Path string
	FIT  bootloader.File `json:"-"`
}

const slotFile = "slot.img"

var _ build.Step = (*SlotImage)(nil)

// Name is "uboot-ab/slot".
func (s *SlotImage) Name() string { return "uboot-ab/slot" }

// Deps is the FIT.
func (s *SlotImage) Deps() []build.Step { return []build.Step{s.FIT.Step} }

// Run writes the header and copies the FIT behind it.
func (s *SlotImage) Run(ctx context.Context, w *build.Work) error {
	header, err := fitslot.Encode(s.Revision)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "making a slot")
	}
	in, err := os.Open(filepath.Join(w.In(s.FIT.Step), filepath.FromSlash(s.FIT.Path)))
	if err != nil {
		return fault.Wrap(fault.IO, err, "making a slot")
	}
	defer in.Close()
	out, err := os.Create(filepath.Join(w.Out, slotFile))
	if err != nil {
		return fault.Wrap(fault.IO, err, "making a slot")
	}
	defer out.Close()
	if _, err := out.Write(header); err != nil {
		return fault.Wrap(fault.IO, err, "making a slot")
	}
	if _, err := io.Copy(out, ctxio.Reader(ctx, in)); err != nil {
		return fault.Wrap(fault.IO, err, "making a slot")
	}
	return fault.Wrap(fault.IO, out.Close(), "making a slot")
}

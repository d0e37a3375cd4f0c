// Package uboot makes U-Boot boot Pantavisor: the script that its distro boot finds, and the
// state of the boot handshake.
//
// On the boot partition (FAT) are boot.scr and pv.env (pv_trying, written by U-Boot as text);
// on the storage (ext4) is boot/uboot.txt (pv_rev and pv_try, written by the runtime). U-Boot
// never writes to the storage: Debian's builds cannot write ext4.
package uboot

import (
	"context"
	"slices"

	"github.com/pantavisor/pantavisor/bootloader"
	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/formats/ubootenv"
	"github.com/pantavisor/pantavisor/formats/uimage"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/trail"
	"github.com/pantavisor/pantavisor/targets"
)

// Paths on the boot partition and the storage.
const (
	scriptFile = "boot.scr"
	tryingFile = "pv.env"
	stateFile  = "boot/uboot.txt" // on the storage (manual: Storage)
)

// Loader is U-Boot for one target.
type Loader struct {
	target *targets.Target
	// firmware is set when firmware hands arguments for the kernel to U-Boot.
	firmware bool
}

var _ bootloader.Loader = (*Loader)(nil)

// New returns U-Boot for a target with a boot loader.
func New(t *targets.Target) bootloader.Loader { return &Loader{target: t} }

// NewBehindFirmware returns U-Boot for a board whose firmware hands it arguments for the kernel,
// in the bootargs of a device tree.
func NewBehindFirmware(t *targets.Target) bootloader.Loader {
	return &Loader{target: t, firmware: true}
}

// Requests lists the packages with blobs and files of the target; none when the board has its
// U-Boot already.
func (l *Loader) Requests() []debian.Request { return bootloader.Packages(l.target) }

// machines are U-Boot's commands for the kernel and its names of the CPU, in legacy images and
// FITs, by GOARCH.
var machines = map[string]struct {
	boot string
	arch uimage.Arch
	fit  string
}{
	"arm64": {"booti", uimage.ARM64, "arm64"}, "riscv64": {"booti", uimage.RISCV, "riscv"}, "arm": {"bootz", uimage.ARM, "arm"},
	"mips": {"bootm", uimage.MIPS, "mips"}, "mipsle": {"bootm", uimage.MIPS, "mips"}, "amd64": {"zboot", uimage.X8664, "x86_64"},
}

// FITArch returns U-Boot's name of a GOARCH in a FIT.
func FITArch(goarch string) string { return machines[goarch].fit }

// Files returns the step with the files of the partition with the role boot.
func (l *Loader) Files(role string, _ bootloader.Kit) (build.Step, error) {
	if role != "boot" {
		return nil, nil
	}
	s := Settings{Boot: l.command(), Root: l.rootNumber(), Firmware: l.firmware}
	if k := l.target.Kernel; k != nil {
		s.Arguments, s.Trees = k.Arguments, k.DeviceTrees
	}
	if a := l.target.Bootloader.Addresses; a != nil {
		s.Kernel, s.Initrd, s.DTB = uint64(a.Kernel), uint64(a.Initrd), uint64(a.DTB)
	}
	script, err := s.Script()
	return &Boot{Script: script, Arch: machines[l.target.Arch.Go].arch, Label: l.target.Name}, err
}

// Values of kernel.format that are U-Boot's own.
const (
	LegacyKernel = "uImage" // its legacy images
	FIT          = "FIT"    // with initrd and device trees
)

// command returns U-Boot's command for the kernel's form.
func (l *Loader) command() string {
	if k := l.target.Kernel; k != nil && k.Format == LegacyKernel {
		return "bootm"
	}
	return machines[l.target.Arch.Go].boot
}

// CPU returns U-Boot's name of the CPU of a GOARCH.
func CPU(arch string) uimage.Arch { return machines[arch].arch }

func (l *Loader) rootNumber() int {
	if l.target.Image() == nil {
		return 0
	}
	return 1 + slices.IndexFunc(l.target.Image().Partitions, func(p targets.Partition) bool { return p.Role == "root" })
}

// Raw returns nothing: where U-Boot is on the medium is the target's own list of blobs.
func (l *Loader) Raw(bootloader.Kit) ([]bootloader.Blob, error) { return nil, nil }

// State returns the step with the files of the storage.
func (l *Loader) State() build.Step { return &State{} }

// Boot is the step that lays out the boot partition's files.
type Boot struct {
	// Script is the text of the boot script.
	Script string
	Arch   uimage.Arch
	// Label is the script's name in its header.
	Label string
}

var (
	_ build.Step      = (*Boot)(nil)
	_ build.Versioned = (*Boot)(nil)
)

// Name is "uboot/boot".
func (b *Boot) Name() string { return "uboot/boot" }

// Version of the step's logic.
func (b *Boot) Version() int { return 1 }

// Deps is empty.
func (b *Boot) Deps() []build.Step { return nil }

// Run writes the tree.
func (b *Boot) Run(_ context.Context, w *build.Work) error {
	label := b.Label[:min(len(b.Label), 32)]
	script, err := uimage.EncodeScript(uimage.Header{Name: label, Arch: b.Arch, Time: build.Epoch}, []byte(b.Script))
	if err != nil {
		return fault.Wrap(fault.Internal, err, "making the boot script")
	}
	trying := make([]byte, stateSize)
	copy(trying, "pv_env=1\n")
	return bootloader.WriteTree(w.Out, map[string][]byte{scriptFile: script, tryingFile: trying})
}

// State is the step with the first state of the boot handshake: revision 0 is good, no
// revision is to be tried.
type State struct{}

var _ build.Step = (*State)(nil)

// Name is "uboot/state".
func (*State) Name() string { return "uboot/state" }

// Deps is empty.
func (*State) Deps() []build.Step { return nil }

// Run writes boot/uboot.txt.
func (*State) Run(_ context.Context, w *build.Work) error {
	text, err := ubootenv.Encode([]ubootenv.Entry{{Name: "pv_rev", Value: trail.First}})
	if err != nil {
		return fault.Wrap(fault.Internal, err, "making U-Boot's values")
	}
	return bootloader.WriteTree(w.Out, map[string][]byte{stateFile: text})
}

// Package rpi makes the firmware of the Raspberry Pi boot Pantavisor, in three ways:
//
//   - rpi-uboot: the firmware starts U-Boot, which picks the revision as on any other board.
//   - rpi: the firmware starts the kernel itself. It always starts the one on the boot partition
//     and knows of no revisions, so a revision with another BSP cannot be tried.
//   - rpiab: as rpi, but with two boot partitions between which the firmware can choose for one
//     boot (tryboot); see package autoboot.
//
// The firmware reads config.txt from the first FAT partition, loads the device tree of the
// board's model under the name that upstream Linux gives it (upstream_kernel=1), changes it
// (memory, serial number, MAC address) and hands it on. What cmdline.txt says is in the device
// tree's bootargs (Raspberry Pi documentation: config.txt, Boot flow).
package rpi

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/bootloader"
	"github.com/pantavisor/pantavisor/bootloader/uboot"
	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/formats/autoboot"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/trail"
	"github.com/pantavisor/pantavisor/targets"
)

// Names of files that the firmware reads.
const (
	configFile  = "config.txt"
	cmdlineFile = "cmdline.txt"
	kernelFile  = "kernel.img"
	initrdFile  = "pantavisor"
	ubootFile   = "u-boot.bin" // from the target's own list of files
)

// firmwarePackage is the Debian package with the firmware, firmwareDir its directory there.
const (
	firmwarePackage = "raspi-firmware"
	firmwareDir     = "usr/lib/raspi-firmware/"
)

// The firmware's files: the stage that only the Pi 0 to 3 load from the medium, and the stages
// that run behind it, those with a 4 on the Pi 4.
const firstStage = "bootcode.bin"

var laterStages = []string{"start.elf", "fixup.dat", "start4.elf", "fixup4.dat"}

// Loader is the firmware for one target.
type Loader struct {
	target *targets.Target
	// uboot is what the firmware starts; nil when it starts the kernel.
	uboot bootloader.Loader
	// ab is set for two boot partitions.
	ab bool
}

var _ bootloader.Slotted = (*Loader)(nil)

// New returns firmware that starts the kernel.
func New(t *targets.Target) bootloader.Loader { return &Loader{target: t} }

// NewUBoot returns firmware that starts U-Boot.
func NewUBoot(t *targets.Target) bootloader.Loader {
	return &Loader{target: t, uboot: uboot.NewBehindFirmware(t)}
}

// NewAB returns firmware that starts the kernel of one of two partitions.
func NewAB(t *targets.Target) bootloader.Loader { return &Loader{target: t, ab: true} }

// Requests lists the packages with firmware and U-Boot.
func (l *Loader) Requests() []debian.Request { return bootloader.Packages(l.target) }

// Raw returns nothing: everything is a file.
func (l *Loader) Raw(bootloader.Kit) ([]bootloader.Blob, error) { return nil, nil }

// State returns the step with the files of the storage. Without U-Boot they say which
// revision runs; tryboot has that on the boot partitions.
func (l *Loader) State() build.Step {
	if l.ab {
		return nil
	}
	return &uboot.State{}
}

// Files returns the step with the files of a partition.
func (l *Loader) Files(role string, k bootloader.Kit) (build.Step, error) {
	switch {
	case role == "boot" && !l.ab:
		return l.boot(role, k, append([]string{firstStage}, laterStages...))
	case role == "boota" && l.ab:
		return l.boot(role, k, laterStages)
	case role == "bootsel" && l.ab:
		return l.selector(role, k)
	}
	return nil, nil
}

// boot returns the files of a partition that the firmware boots from.
func (l *Loader) boot(role string, k bootloader.Kit, stages []string) (*Boot, error) {
	b, err := l.step(role, k, stages)
	if err != nil {
		return nil, err
	}
	if k.BSP == nil {
		return nil, fault.New(fault.Unsupported, "making the boot partition: the kernel's device trees are not known when the BSP is that of a reference device (PVR_USE_SRC_BSP)")
	}
	b.Tree = k.BSP.Tree
	b.Overlays = slices.ContainsFunc(l.target.Bootloader.Files, func(f targets.File) bool { return strings.HasPrefix(f.To, "overlays/") })
	b.Texts = map[string]string{configFile: l.config(), cmdlineFile: l.cmdline()}
	if l.uboot != nil {
		b.UBoot, err = l.uboot.Files("boot", k)
		return b, err
	}
	b.Kernel, b.Initrd = &k.BSP.Kernel, k.BSP.Initrd
	if l.ab {
		b.Texts[autoboot.RevisionFile] = autoboot.Pad(trail.First + "\n")
	}
	return b, nil
}

// selector returns the files of the partition that says where to boot from.
func (l *Loader) selector(role string, k bootloader.Kit) (build.Step, error) {
	b, err := l.step(role, k, []string{firstStage})
	if err != nil {
		return nil, err
	}
	choice := autoboot.Choice{Default: l.number("boota"), Try: l.number("bootb")}
	b.Texts = map[string]string{configFile: "", autoboot.FileName: choice.Text()}
	return b, nil
}

func (l *Loader) step(role string, k bootloader.Kit, stages []string) (*Boot, error) {
	firmware, err := k.Package(firmwarePackage, firmwareDir)
	return &Boot{Role: role, Stages: stages, Firmware: firmware}, err
}

// Slot is the first boot partition, whose image others call rpiab too.
func (l *Loader) Slot() (role, key, file string) {
	if !l.ab {
		return "", "", ""
	}
	return "boota", "rpiab", "pantavisor-rpi.img.gz"
}

// number is that of the partition with a role.
func (l *Loader) number(role string) int {
	return 1 + slices.IndexFunc(l.target.Image().Partitions, func(p targets.Partition) bool { return p.Role == role })
}

// config returns config.txt.
func (l *Loader) config() string {
	wide := 0
	if l.target.Arch.Go == "arm64" {
		wide = 1
	}
	text := fmt.Sprintf("# What the firmware of the Raspberry Pi starts.\narm_64bit=%d\nenable_uart=1\n"+
		"# Device trees have the names that upstream Linux gives them.\nupstream_kernel=1\n", wide)
	if l.uboot != nil {
		return text + "kernel=" + ubootFile + "\n"
	}
	return text + "kernel=" + kernelFile + "\ninitramfs " + initrdFile + " followkernel\n"
}

// cmdline returns cmdline.txt. U-Boot takes what is there in addition to its own arguments; an
// absent file stands for arguments of another system.
func (l *Loader) cmdline() string {
	if l.uboot != nil {
		return "panic=5\n"
	}
	return strings.Join(append(slices.Clone(l.target.Kernel.Arguments), "rdinit=/init"), " ") + "\n"
}

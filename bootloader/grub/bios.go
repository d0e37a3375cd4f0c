package grub

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/pantavisor/pantavisor/bootloader"
	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/targets"
)

const (
	sector = 512
	// codeSize is what a partition table leaves of the first sector for code.
	codeSize = 440
)

// embed places a core image into the first partition with the role loader (a "BIOS boot
// partition"), or else before the first partition, and the code that loads it into the first
// sector.
func (l *Loader) embed(core *Core) ([]bootloader.Blob, error) {
	im := l.target.Image()
	table := tables[im.Table]
	number := 1 + slices.IndexFunc(im.Partitions, func(p targets.Partition) bool { return p.Role == "boot" })
	if number == 0 {
		return nil, fault.New(fault.BadInput, "image.partitions: no partition has the role boot")
	}
	// A BIOS says from which disk it booted, not from which partition.
	core.Prefix = fmt.Sprintf("(,%s%d)%s", table.word, number, bootDir)
	e := &Embed{Core: core}
	place := bootloader.Blob{Name: "grub-core", File: bootloader.File{Step: e, Path: coreName}}
	if i := slices.IndexFunc(im.Partitions, func(p targets.Partition) bool { return p.Role == "loader" }); i >= 0 {
		p := im.Partitions[i]
		e.Sector, place.Partition, place.Max = int64(p.Start)/sector, p.Name, int64(p.Size)
	} else {
		e.Sector, place.Offset = table.free, table.free*sector
		place.Max = int64(im.Partitions[0].Start) - place.Offset
	}
	return []bootloader.Blob{{Name: "grub-boot", File: bootloader.File{Step: e, Path: bootName}, Max: codeSize}, place}, nil
}

// Embed is the step that prepares a core image for a place outside of partitions, as
// grub-install does (its setup.c): it enters the place into the code of the first sector
// ("boot.img") and into that of the core's own first sector ("core.img").
type Embed struct {
	// Sector is the core's first.
	Sector int64
	Core   *Core `json:"-"`
}

// bootName is GRUB's name of the code for the first sector.
const bootName = "boot.img"

var (
	_ build.Step      = (*Embed)(nil)
	_ build.Versioned = (*Embed)(nil)
)

// Name is "grub/embed".
func (e *Embed) Name() string { return "grub/embed" }

// Version of the step's logic.
func (e *Embed) Version() int { return 1 }

// Deps are the core image and the package with the first sector's code.
func (e *Embed) Deps() []build.Step { return []build.Step{e.Core, e.Core.Package} }

// Run writes the two images.
func (e *Embed) Run(_ context.Context, w *build.Work) error {
	boot, err := os.ReadFile(filepath.Join(e.Core.modules(w), bootName))
	if err != nil {
		return fault.Wrap(fault.IO, err, "reading GRUB's first sector")
	}
	core, err := os.ReadFile(filepath.Join(w.In(e.Core), coreName))
	if err != nil {
		return fault.Wrap(fault.IO, err, "reading GRUB's core image")
	}
	if boot, err = bootSector(boot, e.Sector); err != nil {
		return err
	}
	if err := placeCore(core, e.Sector); err != nil {
		return err
	}
	return bootloader.WriteTree(w.Out, map[string][]byte{bootName: boot, coreName: core})
}

// Places in boot.img (GRUB's i386/pc/boot.h).
const (
	coreSectorAt = 0x5c // the core's first sector, 8 bytes
	driveCheckAt = 0x66 // a jump past the check of the drive's number, 2 bytes
)

// bootSector returns the code of the first sector that loads a core image from at.
func bootSector(image []byte, at int64) ([]byte, error) {
	one := binary.LittleEndian.AppendUint64(nil, 1)
	if len(image) != sector || !bytes.Equal(image[coreSectorAt:coreSectorAt+8], one) || image[driveCheckAt] != 0xeb {
		return nil, fault.New(fault.Unsupported, "preparing GRUB's %s: its layout is not that of GRUB 2", bootName)
	}
	code := slices.Clone(image[:codeSize])
	binary.LittleEndian.PutUint64(code[coreSectorAt:], uint64(at))
	// Some BIOSes say 0 or 1 for a hard disk: without the jump the code corrects that.
	copy(code[driveCheckAt:], []byte{0x90, 0x90})
	return code, nil
}

// The core's first sector ends with the block list of its other sectors: the first sector, 8
// bytes, their number and the segment that they are loaded to, 2 bytes each.
const (
	blockListAt = sector - 12
	coreSegment = 0x820
)

// placeCore enters the core's first sector into its block list.
func placeCore(core []byte, at int64) error {
	sectors := (len(core) + sector - 1) / sector
	if len(core) < 2*sector || binary.LittleEndian.Uint64(core[blockListAt:]) != 2 ||
		int(binary.LittleEndian.Uint16(core[blockListAt+8:])) != sectors-1 || binary.LittleEndian.Uint16(core[blockListAt+10:]) != coreSegment {
		return fault.New(fault.Unsupported, "preparing GRUB's %s: its first sector has no block list of %d sectors", coreName, sectors-1)
	}
	binary.LittleEndian.PutUint64(core[blockListAt:], uint64(at+1))
	return nil
}

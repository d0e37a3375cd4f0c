package targets

import "github.com/pantavisor/pantavisor/internal/yamlfile"

// Images are the media of a target.
type Images []Image

var _ yamlfile.OneOrMore = Images(nil)

// OneOrMore implements yamlfile.OneOrMore.
func (Images) OneOrMore() {}

// Image is a medium with partitions.
type Image struct {
	// File is the name of the file in out/TARGET. Default: TARGET-pv-SIZEMiB.img for the
	// first image (manual: Build output); the others need one.
	File string `yaml:"file,omitempty" json:"file,omitempty"`
	// Size is the size of the whole medium in MiB.
	Size int `yaml:"size" json:"size" jsonschema:"minimum=1,maximum=1048576"`
	// Block is the size of an erase block of raw NAND flash, which the format ubifs needs.
	Block Size `yaml:"block,omitempty" json:"block,omitempty"`
	// Page is the size of the smallest write to such flash.
	Page Size `yaml:"page,omitempty" json:"page,omitempty"`
	// Table is the kind of partition table, one that the boot loader reads: gpt, mbr (up to
	// four partitions, without names), hybrid (a GPT whose MBR has the partitions with the flag
	// mbr too), mtd (none on the medium: the kernel gets it from mtdparts or the device tree)
	// or none.
	Table string `yaml:"table" json:"table"`
	// Compress adds the image in a compressed form, beside which the same block map belongs: xz
	// (FILE.xz) or zst (FILE.zst).
	Compress string `yaml:"compress,omitempty" json:"compress,omitempty" jsonschema:"enum=xz,enum=zst"`
	// Forms are further forms of the image: qcow2, a disk for QEMU.
	Forms []string `yaml:"forms,omitempty" json:"forms,omitempty" jsonschema:"enum=qcow2"`
	// Partitions are in the order of their offsets.
	Partitions []Partition `yaml:"partitions" json:"partitions"`
}

// Partition is one entry of the partition table.
type Partition struct {
	// Name is the partition's name in the table and the label of its file system.
	Name string `yaml:"name" json:"name"`
	// Role is what the partition is for: boot (the loader's files), root (the storage), bootsel,
	// boota and bootb (what A/B loaders choose by and from), env (a loader's environment), oem
	// (the manufacturer's settings) or loader (a stage of the loader).
	Role string `yaml:"role" json:"role"`
	// Format is fat16, fat32, ext4, squashfs, ubifs, or raw: what a blob of the boot loader
	// puts there, else zeros.
	Format string `yaml:"format" json:"format"`
	// Type is the partition's type: a GUID in a GPT, two hexadecimal digits in an MBR.
	// Default: that of its role.
	Type string `yaml:"type,omitempty" json:"type,omitempty"`
	// Flags are bootable (active in an MBR, where firmware and U-Boot look for files), legacy-boot
	// (the attribute of a GPT with that meaning) and mbr (in the MBR of a hybrid table too).
	// Default: bootable and mbr for the roles boot and bootsel.
	Flags []string `yaml:"flags,omitempty" json:"flags,omitempty" jsonschema:"enum=bootable,enum=legacy-boot,enum=mbr"`
	// Align is what the offset is a multiple of. Default: 1 MiB.
	Align Size `yaml:"align,omitempty" json:"align,omitempty"`
	// Start is the offset. Default: the end of the partition before; the first begins after the
	// table, at 1 MiB.
	Start Size `yaml:"start,omitempty" json:"start,omitempty"`
	// Size 0 is the remaining space, allowed for the last partition only.
	Size Size `yaml:"size,omitempty" json:"size,omitempty"`
}

// Blob is content that is not a file of a file system: a stage of the boot loader. It has
// either File or Part, and one of Sector, Offset and Partition.
type Blob struct {
	// Name is for people: "spl".
	Name string `yaml:"name" json:"name"`
	// File is its path in a Debian package.
	File string `yaml:"file,omitempty" json:"file,omitempty"`
	// Package is the name of that package. Default: the first of bootloader.packages.
	Package string `yaml:"package,omitempty" json:"package,omitempty"`
	// Part is a named part of the target.
	Part string `yaml:"part,omitempty" json:"part,omitempty"`
	// Skip is how much of its beginning is left out.
	Skip Size `yaml:"skip,omitempty" json:"skip,omitempty"`
	// Length is how much of the rest is taken. Default: all of it.
	Length Size `yaml:"length,omitempty" json:"length,omitempty"`
	// Swap reverses the bytes of each word of 32 bits, for flash that a little-endian CPU reads
	// through a big-endian bus.
	Swap bool `yaml:"swap,omitempty" json:"swap,omitempty"`
	// Sector is where it begins, in sectors of 512 bytes from the beginning of the medium. The
	// code of an MBR is at sector 0.
	Sector *int64 `yaml:"sector,omitempty" json:"sector,omitempty" jsonschema:"minimum=0,maximum=2147483648"`
	// Offset is where it begins, as a size from the beginning of the medium.
	Offset *Size `yaml:"offset,omitempty" json:"offset,omitempty"`
	// Partition is the name of a partition with format raw that it fills from its start.
	Partition string `yaml:"partition,omitempty" json:"partition,omitempty"`
	// Max is the space reserved for it; a larger blob is an error. Required, except with
	// Partition and Length.
	Max Size `yaml:"max,omitempty" json:"max,omitempty"`
}

// File is a file for a partition that firmware reads. It has either From or Part.
type File struct {
	// To is its path on the partition, without a leading '/'.
	To string `yaml:"to" json:"to"`
	// From is its path in a Debian package.
	From string `yaml:"from,omitempty" json:"from,omitempty"`
	// Package is the name of that package. Default: the first of bootloader.packages.
	Package string `yaml:"package,omitempty" json:"package,omitempty"`
	// Part is a named part of the target.
	Part string `yaml:"part,omitempty" json:"part,omitempty"`
	// Role is that of the partition. Default: boot.
	Role string `yaml:"role,omitempty" json:"role,omitempty"`
}

// Image returns the main image, nil when the target has none.
func (t *Target) Image() *Image {
	if len(t.Images) == 0 {
		return nil
	}
	return &t.Images[0]
}

// Partition returns the first partition of the images with a role, nil when there is no
// such one.
func (t *Target) Partition(role string) *Partition {
	for i := range t.Images {
		for j := range t.Images[i].Partitions {
			if p := &t.Images[i].Partitions[j]; p.Role == role {
				return p
			}
		}
	}
	return nil
}

// LongestLabel returns how many characters a label of a format holds, 0 for one without.
func LongestLabel(format string) int {
	v, _ := lookup(values["image.partitions.format"], format)
	return v.format.label
}

// BlobMax is the space of a blob: Max, or what follows from other fields. 0: it is not known.
func (t *Target) BlobMax(b Blob) Size {
	if b.Max != 0 || b.Partition == "" {
		return max(b.Max, b.Length)
	}
	for _, im := range t.Images {
		for _, p := range im.Partitions {
			if p.Name == b.Partition {
				return p.Size
			}
		}
	}
	return b.Length
}

// Where returns the offset of a blob that is not in a partition.
func (b Blob) Where() Size {
	switch {
	case b.Sector != nil:
		return Size(*b.Sector) * Sector
	case b.Offset != nil:
		return *b.Offset
	}
	return 0
}

// place fills in where the partitions begin.
func (im *Image) place() {
	next := im.first()
	for i := range im.Partitions {
		p := &im.Partitions[i]
		if p.Align == 0 {
			p.Align = MiB
		}
		if p.Start == 0 {
			p.Start = p.aligned(next)
		}
		next = p.Start + p.Size
	}
}

// first is where the first partition may begin.
func (im *Image) first() Size {
	v, _ := lookup(values["image.table"], im.Table)
	return v.table.first
}

// aligned returns the first offset from at on where the partition may begin.
func (p *Partition) aligned(at Size) Size {
	align := p.Align
	if align == 0 {
		align = MiB
	}
	return (at + align - 1) / align * align
}

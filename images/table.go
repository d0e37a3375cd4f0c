package images

import (
	"context"
	"encoding/binary"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/diskfs/go-diskfs/partition/mbr"

	"github.com/pantavisor/pantavisor/internal/fault"
)

const sector = 512

// extent is a range of bytes of the medium.
type extent struct{ from, to int64 }

// tableForm is a kind of partition table.
type tableForm struct {
	// reserved returns the ranges that the table occupies on a medium of the given size.
	reserved func(size int64) []extent
	write    func(c *composition) error
	// first and last are the space in bytes before the first partition and behind the last one.
	first, last int64
	// most is the number of partitions, sectors the largest size of the medium, in sectors,
	// that it describes.
	most    int
	sectors int64
}

// tables are the kinds by name. To add one, add an entry here and in package targets. The
// code of an MBR is no part of the table.
var tables = map[string]tableForm{
	"gpt": {
		reserved: gptReserved, write: (*composition).writeGPT,
		first: 34 * sector, last: mib, most: 128, sectors: math.MaxInt64 / sector,
	},
	"mbr": {
		reserved: func(int64) []extent { return []extent{{mbrCode, sector}} },
		write:    (*composition).writeMBR,
		first:    sector, last: mib, most: 4, sectors: math.MaxUint32,
	},
	"hybrid": {
		reserved: gptReserved, write: (*composition).writeHybrid,
		first: 34 * sector, last: mib, most: 128, sectors: math.MaxUint32,
	},
	"mtd": {
		reserved: func(int64) []extent { return nil },
		write:    (*composition).erase,
		most:     128, sectors: maxFlash / sector,
	},
	"none": {
		reserved: func(int64) []extent { return nil },
		write:    func(*composition) error { return nil },
		most:     128, sectors: math.MaxInt64 / sector,
	},
}

// mbrCode is the space of the first sector before the entries of the table. The identifier of
// the disk is its last six bytes: first stages that need this space replace it.
const mbrCode = 446

// gptReserved is the protective MBR, the header and 32 sectors of entries, and their copies.
func gptReserved(size int64) []extent {
	return []extent{{mbrCode, 34 * sector}, {size - 33*sector, size}}
}

// role is what a partition is for.
type role struct {
	// gpt is the partition's type in a GPT.
	gpt gpt.Type
	// flags are those of its partitions that have none of their own.
	flags []string
	// storage is set for the partition with the storage; others have the loader's files.
	storage bool
}

// Flags of partitions.
const (
	flagBootable   = "bootable"    // active in an MBR, where firmware looks for files
	flagLegacyBoot = "legacy-boot" // bit 2 of the attributes in a GPT, for U-Boot
	flagMBR        = "mbr"         // in the MBR of a hybrid table too
)

// roles are the roles by name. To add one, add an entry here and in package targets.
var roles = map[string]role{
	"boot":    {gpt: gpt.EFISystemPartition, flags: []string{flagBootable, flagMBR}},
	"root":    {gpt: gpt.LinuxFilesystem, storage: true},
	"bootsel": {gpt: gpt.EFISystemPartition, flags: []string{flagBootable, flagMBR}},
	"boota":   {gpt: gpt.MicrosoftBasicData},
	"bootb":   {gpt: gpt.MicrosoftBasicData},
	"env":     {gpt: ubootEnvironment},
	"oem":     {gpt: gpt.LinuxFilesystem},
	"loader":  {gpt: gpt.LinuxReserved},
}

// ubootEnvironment is the type of a partition with U-Boot's environment (U-Boot:
// include/part_efi.h, PARTITION_U_BOOT_ENVIRONMENT).
const ubootEnvironment gpt.Type = "3DE21764-95BD-54BD-A5C3-4ABE786F38A8"

// flagged reports whether a partition has a flag.
func (s span) flagged(flag string) bool {
	flags := s.Flags
	if flags == nil {
		flags = roles[s.Role].flags
	}
	return slices.Contains(flags, flag)
}

// checkRoles checks that the roles of all partitions are known.
func (c *composition) checkRoles() error {
	for _, s := range c.spans {
		if _, ok := roles[s.Role]; !ok {
			return fault.New(fault.Unsupported, "partitioning the image: role %q of partition %s is not supported; supported: %s", s.Role, s.Name, keyList(roles))
		}
	}
	return nil
}

// tableOf returns the kind of a layout's table.
func tableOf(l Layout) (tableForm, error) {
	form, ok := tables[l.Table]
	if !ok {
		return form, fault.New(fault.Unsupported, "partitioning the image: table %q is not supported; supported: %s", l.Table, keyList(tables))
	}
	if len(l.Partitions) > form.most {
		return form, fault.New(fault.Unsupported, "partitioning the image: it has %d partitions, a table of type %s holds %d", len(l.Partitions), l.Table, form.most)
	}
	if int64(l.Size) > form.sectors/(mib/sector) {
		return form, fault.New(fault.Unsupported, "partitioning the image: of its %d MiB a table of type %s describes %d", l.Size, l.Table, form.sectors/(mib/sector))
	}
	return form, nil
}

func keyList[V any](m map[string]V) string {
	return strings.Join(slices.Sorted(maps.Keys(m)), ", ")
}

// table writes the partition table and its copies.
func (c *composition) table(context.Context) error {
	form, err := tableOf(c.disk.Layout)
	if err != nil {
		return err
	}
	return fault.Wrap(fault.IO, form.write(c), "partitioning the image")
}

// legacyBoot is the attribute of a GPT's partition that a BIOS may start (UEFI specification
// 2.10, table 5.8, bit 2).
const legacyBoot = 1 << 2

func (c *composition) writeGPT() error {
	t := &gpt.Table{GUID: c.id.uuid("disk"), ProtectiveMBR: true, LogicalSectorSize: sector, PhysicalSectorSize: sector}
	for i, s := range c.spans {
		p := &gpt.Partition{
			Index: i + 1, Start: uint64(s.Start / sector), End: uint64((s.Start+s.Length)/sector - 1), Size: uint64(s.Length),
			Type: roles[s.Role].gpt, Name: s.Name, GUID: c.id.uuid("partition " + s.Name),
		}
		if s.Type != "" {
			p.Type = gpt.Type(strings.ToUpper(s.Type))
		}
		if s.flagged(flagLegacyBoot) {
			p.Attributes = legacyBoot
		}
		t.Partitions = append(t.Partitions, p)
	}
	return t.Write(c.file, int64(c.disk.Layout.Size)*mib)
}

// signatureAt is the offset of the disk's identifier in an MBR: Linux derives the UUIDs
// of its partitions from it.
const signatureAt = 440

func (c *composition) writeMBR() error {
	t := &mbr.Table{LogicalSectorSize: sector, PhysicalSectorSize: sector}
	for i, s := range c.spans {
		p, err := s.entry(i + 1)
		if err != nil {
			return err
		}
		t.Partitions = append(t.Partitions, p)
	}
	if err := t.Write(c.file, int64(c.disk.Layout.Size)*mib); err != nil {
		return err
	}
	return c.sign()
}

// sign writes the disk's identifier.
func (c *composition) sign() error {
	_, err := c.file.WriteAt(binary.LittleEndian.AppendUint32(nil, c.id.number("disk")), signatureAt)
	return err
}

// mbrTypes are the types of formats in an MBR; Linux is that of all others.
var mbrTypes = map[string]mbr.Type{"fat32": mbr.Fat32LBA, "fat16": mbr.Fat16bLBA}

// entry returns a partition's entry of an MBR.
func (s span) entry(index int) (*mbr.Partition, error) {
	kind, ok := mbrTypes[s.Format]
	if !ok {
		kind = mbr.Linux
	}
	if s.Type != "" {
		n, err := strconv.ParseUint(strings.TrimPrefix(s.Type, "0x"), 16, 8)
		if err != nil {
			return nil, fault.New(fault.BadInput, "partition %s: %q is not a type of an MBR: want two hexadecimal digits", s.Name, s.Type)
		}
		kind = mbr.Type(n)
	}
	return &mbr.Partition{Index: index, Bootable: s.flagged(flagBootable), Type: kind, Start: uint32(s.Start / sector), Size: uint32(s.Length / sector)}, nil
}

// protective is the type of the MBR's entry for a GPT.
const protective mbr.Type = 0xEE

// writeHybrid writes a GPT whose MBR has the partitions with the flag mbr, up to three,
// behind the protective entry, which covers what is before them.
func (c *composition) writeHybrid() error {
	if err := c.writeGPT(); err != nil {
		return err
	}
	t := &mbr.Table{LogicalSectorSize: sector, PhysicalSectorSize: sector}
	for _, s := range c.spans {
		if !s.flagged(flagMBR) {
			continue
		}
		s.Type = "" // that of the GPT
		p, err := s.entry(len(t.Partitions) + 2)
		if err != nil {
			return err
		}
		t.Partitions = append(t.Partitions, p)
	}
	if n := len(t.Partitions); n == 0 || n > 3 {
		return fault.New(fault.BadInput, "%d partitions have the flag mbr; a hybrid table holds 1 to 3", n)
	}
	before := &mbr.Partition{Index: 1, Type: protective, Start: 1, Size: t.Partitions[0].Start - 1}
	t.Partitions = append([]*mbr.Partition{before}, t.Partitions...)
	if err := t.Write(c.file, int64(c.disk.Layout.Size)*mib); err != nil {
		return err
	}
	return c.sign()
}

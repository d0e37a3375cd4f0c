package images

import (
	"context"
	"encoding/binary"
	"maps"
	"math"
	"slices"
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
	// most is the number of partitions, sectors the largest size of the medium, in sectors,
	// that it describes.
	most    int
	sectors int64
}

// tables are the kinds by name. To add one, add an entry here and in package targets. The
// first 440 bytes of the first sector are for code: no table occupies them.
var tables = map[string]tableForm{
	"gpt": {
		// The protective MBR, the header and 32 sectors of entries, and their copies.
		reserved: func(size int64) []extent { return []extent{{440, 34 * sector}, {size - 33*sector, size}} },
		write:    (*composition).writeGPT,
		most:     128, sectors: math.MaxInt64 / sector,
	},
	"mbr": {
		reserved: func(int64) []extent { return []extent{{440, sector}} },
		write:    (*composition).writeMBR,
		most:     4, sectors: math.MaxUint32,
	},
}

// role is what a partition is for.
type role struct {
	// gpt is the partition's type in a GPT.
	gpt gpt.Type
	// bootable marks the partition as active in an MBR, where firmware looks for files.
	bootable bool
	// storage is set for the partition with the storage; others have the loader's files.
	storage bool
}

// roles are the roles by name. To add one, add an entry here and in package targets.
var roles = map[string]role{
	"boot": {gpt: gpt.EFISystemPartition, bootable: true},
	"root": {gpt: gpt.LinuxFilesystem, storage: true},
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

func (c *composition) writeGPT() error {
	t := &gpt.Table{GUID: c.id.uuid("disk"), ProtectiveMBR: true, LogicalSectorSize: sector, PhysicalSectorSize: sector}
	for i, s := range c.spans {
		t.Partitions = append(t.Partitions, &gpt.Partition{
			Index: i + 1, Start: uint64(s.Start / sector), End: uint64((s.Start+s.Length)/sector - 1), Size: uint64(s.Length),
			Type: roles[s.Role].gpt, Name: s.Name, GUID: c.id.uuid("partition " + s.Name),
		})
	}
	return t.Write(c.file, int64(c.disk.Layout.Size)*mib)
}

// signatureAt is the offset of the disk's identifier in an MBR: Linux derives the UUIDs
// of its partitions from it.
const signatureAt = 440

func (c *composition) writeMBR() error {
	t := &mbr.Table{LogicalSectorSize: sector, PhysicalSectorSize: sector}
	for i, s := range c.spans {
		kind := mbr.Linux
		if s.Format == "fat32" {
			kind = mbr.Fat32LBA
		}
		t.Partitions = append(t.Partitions, &mbr.Partition{
			Index: i + 1, Bootable: roles[s.Role].bootable, Type: kind, Start: uint32(s.Start / sector), Size: uint32(s.Length / sector),
		})
	}
	if err := t.Write(c.file, int64(c.disk.Layout.Size)*mib); err != nil {
		return err
	}
	_, err := c.file.WriteAt(binary.LittleEndian.AppendUint32(nil, c.id.number("disk")), signatureAt)
	return err
}

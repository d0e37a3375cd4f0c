package targets

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/spelling"
)

// value is one value of a field that has a fixed set of them.
type value struct {
	name string
	// ready is set when the value is implemented. Others are known, and rejected by name as
	// unsupported.
	ready  bool
	format formatRules
	loader loaderRules
	role   roleRules
	table  tableRules
}

// formatRules are for values of image.partitions.format.
type formatRules struct {
	// label is the longest label of the file system in characters.
	label int
	// minimum and maximum are the limits of its size; 0 is none.
	minimum, maximum Size
}

// tableRules are for values of image.table.
type tableRules struct {
	// first is the space before the first partition, last that after the last one: a GPT keeps
	// its second copy in the last 33 sectors.
	first, last Size
	// most is the number of partitions that it holds; 0 is any number.
	most int
	// kind is the form of a partition's type: that of a GPT, an MBR, or none.
	kind typeForm
	// flags are those that its partitions may have.
	flags []string
}

// typeForm is a form of partitions' types.
type typeForm struct {
	form *regexp.Regexp
	want string
}

var (
	guidType  = typeForm{regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`), "a GUID such as 0FC63DAF-8483-4772-8E79-3D69D8477DE4"}
	mbrType   = typeForm{regexp.MustCompile(`^(0x)?[0-9A-Fa-f]{2}$`), "two hexadecimal digits such as 0x0c"}
	withoutIt = typeForm{regexp.MustCompile(`^$`), "none: the medium has no table"}
)

// loaderRules are for values of bootloader.type.
type loaderRules struct {
	// runtime is PV_BOOTLOADER_TYPE, the runtime's name of the handshake with the loader,
	// empty as long as it has none.
	runtime string
	// tables are the values of image.table that the loader boots from.
	tables []string
	// roles are the roles of the partitions that it needs besides the storage.
	roles []string
	// oneInitrd is set for a loader that loads no addons.
	oneInitrd bool
}

// roleRules are for values of image.partitions.role.
type roleRules struct {
	// least and most are how many partitions of an image have it; most 0 is any number. A
	// loader that needs the role raises least to 1.
	least, most int
	// last is set for the role of the last partition.
	last bool
	// formats are the values of image.partitions.format that it may have. reason says why
	// others are mistakes; without one they are not supported yet.
	formats []string
	reason  string
}

// values are the tables of all such fields, by the field's path without indices. A new
// value is one entry here; its implementation goes into the package named in the comment.
var values = map[string][]value{
	// package kernel/sources
	"kernel.source": {
		{name: "debian", ready: true},
		{name: "files", ready: true},
		{name: "debian-source", ready: true},
		{name: "tree", ready: true},
		{name: "buildroot", ready: true},
		{name: "yocto", ready: true},
	},
	// package kernel, format.go; FIT: package images, fit.go
	"kernel.format": {
		{name: "Image", ready: true}, {name: "Image.gz", ready: true}, {name: "zImage", ready: true}, {name: "bzImage", ready: true},
		{name: "uImage", ready: true}, {name: "vmlinux", ready: true}, {name: "FIT", ready: true},
	},
	// Package bootloader/loaders; on the device packages runtime/config and runtime/boot.
	"bootloader.type": {
		{name: "grub", ready: true, loader: loaderRules{runtime: "grub", tables: []string{"gpt", "mbr", "hybrid"}, roles: []string{"boot"}}},
		{name: "uboot", ready: true, loader: loaderRules{runtime: "uboot", tables: []string{"mbr", "gpt", "hybrid"}, roles: []string{"boot"}}},
		{name: "uboot-flash", ready: true, loader: loaderRules{runtime: "uboot", tables: []string{"mtd", "mbr", "gpt"}, roles: []string{"env"}}},
		{name: "uboot-ab", ready: true, loader: loaderRules{runtime: "uboot-ab", tables: []string{"gpt", "mbr", "hybrid", "mtd", "none"}, roles: []string{"env", "boota", "bootb"}}},
		{name: "uboot-pvk", loader: loaderRules{runtime: "uboot-pvk"}},
		{name: "rpi", ready: true, loader: loaderRules{runtime: "uboot", tables: []string{"mbr"}, roles: []string{"boot"}}},
		{name: "rpi-uboot", ready: true, loader: loaderRules{runtime: "uboot", tables: []string{"mbr"}, roles: []string{"boot"}}},
		{name: "rpiab", ready: true, loader: loaderRules{runtime: "rpiab", tables: []string{"mbr"}, roles: []string{"bootsel", "boota", "bootb"}}},
		{name: "efiab", ready: true, loader: loaderRules{runtime: "efiab", tables: []string{"gpt"}, roles: []string{"bootsel", "boota", "bootb"}}},
		{name: "extlinux", ready: true, loader: loaderRules{runtime: "extlinux", tables: []string{"gpt", "mbr", "hybrid"}, oneInitrd: true}},
	},
	// package images, table.go
	"image.table": {
		{name: "gpt", ready: true, table: tableRules{first: 34 * Sector, last: MiB, most: 128, kind: guidType, flags: []string{"legacy-boot"}}},
		{name: "mbr", ready: true, table: tableRules{first: Sector, last: MiB, most: 4, kind: mbrType, flags: []string{"bootable"}}},
		{name: "hybrid", ready: true, table: tableRules{first: 34 * Sector, last: MiB, most: 128, kind: guidType, flags: []string{"legacy-boot", "bootable", "mbr"}}},
		{name: "mtd", ready: true, table: tableRules{kind: withoutIt}},
		{name: "none", ready: true, table: tableRules{kind: withoutIt}},
	},
	// package images, table.go
	"image.partitions.role": {
		{name: "boot", ready: true, role: roleRules{most: 1, formats: []string{"fat32", "fat16"}}},
		{name: "root", ready: true, role: roleRules{
			least: 1, most: 1, last: true, formats: []string{"ext4", "ubifs"}, reason: "the storage needs ext4, or ubifs on raw flash: objects are hard-linked",
		}},
		{name: "bootsel", ready: true, role: roleRules{most: 1, formats: []string{"fat16", "fat32"}}},
		{name: "boota", ready: true, role: roleRules{most: 1, formats: []string{"fat16", "fat32", "raw"}}},
		{name: "bootb", ready: true, role: roleRules{most: 1, formats: []string{"fat16", "fat32", "raw"}}},
		{name: "env", ready: true, role: roleRules{formats: []string{"raw"}, reason: "boot loaders keep their environment without a file system: want raw"}},
		{name: "oem", ready: true, role: roleRules{most: 1, formats: []string{"raw", "fat16", "fat32", "squashfs"}}},
		{name: "loader", ready: true, role: roleRules{formats: []string{"raw"}, reason: "stages of a boot loader are not files: want raw"}},
	},
	// Package images, disk.go. Labels: FAT's volume label and ext4's s_volume_name. With fewer than 65525 clusters
	// of one sector, every reader takes a volume for FAT16.
	"image.partitions.format": {
		{name: "fat32", ready: true, format: formatRules{label: 11, minimum: 33 * MiB}},
		{name: "fat16", ready: true, format: formatRules{label: 11, minimum: 5 * MiB, maximum: 2047 * MiB}},
		{name: "ext4", ready: true, format: formatRules{label: 16}},
		{name: "squashfs", ready: true},
		{name: "ubifs", ready: true, format: formatRules{label: 127}},
		{name: "raw", ready: true},
	},
}

var indices = regexp.MustCompile(`\[\d+\]`)

// CheckValue checks a value of a field that has a table.
func CheckValue(path, text string) error {
	table := values[indices.ReplaceAllString(path, "")]
	v, known := lookup(table, text)
	switch {
	case table == nil || known && v.ready:
		return nil
	case known:
		return fault.New(fault.Unsupported, "%s", v.unsupported(table))
	}
	return fault.New(fault.BadInput, "%s", impossible(text, table))
}

func lookup(table []value, name string) (value, bool) {
	for _, v := range table {
		if v.name == name {
			return v, true
		}
	}
	return value{}, false
}

// names lists a table's values, all or only the ready ones.
func names(table []value, all bool) []string {
	var out []string
	for _, v := range table {
		if v.ready || all {
			out = append(out, v.name)
		}
	}
	return out
}

// Ready lists the values of a field, for example "bootloader.type", that are
// implemented; nil for a field without a table.
func Ready(field string) []string { return names(values[field], false) }

// NotReady is the error for a value of a field that is not supported yet: Unsupported for
// one that is known, bad input with the nearest ones for any other.
func NotReady(field, name string) error {
	table := values[field]
	if v, known := lookup(table, name); known {
		return fault.New(fault.Unsupported, "%s: %s", field, v.unsupported(table))
	}
	return fault.New(fault.BadInput, "%s: %s", field, impossible(name, table))
}

func (v value) unsupported(table []value) string {
	return fmt.Sprintf("%q is not supported yet; supported: %s", v.name, strings.Join(names(table, false), ", "))
}

func impossible(name string, table []value) string {
	if near := spelling.Nearest(name, names(table, true)); len(near) > 0 {
		return spelling.Impossible(name, near)
	}
	return spelling.Impossible(name, names(table, false))
}

package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pantavisor/pantavisor/runtime/uevent"
)

// Device is a block device, a partition or a whole disk, or a UBI volume of raw flash.
type Device struct {
	Path      string // as mount takes it: /dev/vda2, ubi0:boot
	Sys       string // its directory below /sys/class/block or /sys/class/ubi, links not resolved
	Disk      string // name of the disk, "vda"; for a whole disk its own name
	Partition int    // partition number, 0 for a whole disk and a UBI volume
	PartLabel string // name in a GUID partition table
	PartUUID  string // unique GUID of a GPT entry, or disk signature and number of an MBR
	Super     Super
}

// diskPath returns the path of the whole disk's device.
func (d Device) diskPath() string { return "/dev/" + d.Disk }

// Want describes the device of the storage.
type Want struct {
	// Spec is PV_STORAGE_DEVICE: LABEL=, UUID=, PARTLABEL= or PARTUUID= and a
	// value, the path of a device ("/dev/vda2", or "vda2" for short), or a UBI volume
	// ("ubi0:boot", "ubi0_0"), whose name LABEL= matches too. Empty: the partition
	// BootPart if it has an ext file system, or one labelled pvroot or root.
	Spec string
	// BootPart is the PARTUUID of any partition of the disk that the device booted
	// from, if known: a candidate on that disk is preferred.
	BootPart string
}

// usualLabels are those of the storage on images of this project and of others.
var usualLabels = []string{"pvroot", "root"}

// name describes what is wanted, for messages.
func (w Want) name() string {
	if w.Spec != "" {
		return w.Spec
	}
	return "the storage (PV_STORAGE_DEVICE is not set: the boot loader's partition or label " + strings.Join(usualLabels, ", ") + ")"
}

// errNotFound means that no device matched in time.
var errNotFound = errors.New("no such device")

// Find returns the wanted device, waiting for it until ctx ends. others are devices
// that matched but were not chosen: two disks with the same label are a mistake of the
// user, of which the caller should warn. When ctx ends, the error wraps ErrNotFound and
// lists the existing devices.
func Find(ctx context.Context, want Want) (found Device, others []Device, err error) {
	match, err := want.matcher()
	if err != nil {
		return Device{}, nil, err
	}
	events, err := uevent.Listen()
	if err != nil {
		return Device{}, nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = events.Close() })
	defer stop()
	defer events.Close()
	for {
		devices := scan()
		if hits := slices.DeleteFunc(slices.Clone(devices), func(d Device) bool { return !match(d) }); len(hits) > 0 {
			return choose(hits, devices, want.BootPart)
		}
		if err := nextBlock(events); err != nil {
			return Device{}, nil, fmt.Errorf("finding %s: %w; existing devices: %s", want.name(), errNotFound, describe(devices))
		}
	}
}

// Look returns the wanted device without waiting. ok is false when it does not exist
// yet, or when a device that appears later could be preferred.
func Look(want Want) (found Device, others []Device, ok bool) {
	match, err := want.matcher()
	if err != nil {
		return Device{}, nil, false
	}
	devices := scan()
	hits := slices.DeleteFunc(slices.Clone(devices), func(d Device) bool { return !match(d) })
	if len(hits) == 0 {
		return Device{}, nil, false
	}
	found, others, err = choose(hits, devices, want.BootPart)
	booted := func(d Device) bool { return d.Disk == found.Disk && strings.EqualFold(d.PartUUID, want.BootPart) }
	return found, others, err == nil && (want.BootPart == "" || slices.ContainsFunc(devices, booted))
}

// choose returns the partition that the boot loader named, else the first device on its
// disk, else the first by name.
func choose(hits, all []Device, bootPart string) (Device, []Device, error) {
	booted := func(d Device) bool { return bootPart != "" && strings.EqualFold(d.PartUUID, bootPart) }
	best := slices.IndexFunc(hits, booted)
	if i := slices.IndexFunc(all, booted); best < 0 && i >= 0 {
		best = slices.IndexFunc(hits, func(d Device) bool { return d.Disk == all[i].Disk })
	}
	best = max(0, best)
	return hits[best], slices.Delete(slices.Clone(hits), best, best+1), nil
}

// nextBlock waits until a block device or UBI volume appears or changes, or events were lost.
func nextBlock(events *uevent.Conn) error {
	for {
		e, err := events.Next()
		switch {
		case errors.Is(err, uevent.ErrLost):
			return nil
		case err != nil:
			return err
		case (e.Env["SUBSYSTEM"] == "block" || e.Env["SUBSYSTEM"] == "ubi") && e.Action != "remove":
			return nil
		}
	}
}

func (w Want) matcher() (func(Device) bool, error) {
	key, value, tagged := strings.Cut(w.Spec, "=")
	switch {
	case w.Spec == "":
		return w.usual, nil
	case isUBI(w.Spec):
		return ubiMatcher(w.Spec), nil
	case !tagged:
		path := w.Spec
		if !strings.Contains(path, "/") {
			path = "/dev/" + path
		}
		return func(d Device) bool { return d.Path == path || samePath(path, d.Path) }, nil
	case value == "":
		return nil, fmt.Errorf("finding the storage: PV_STORAGE_DEVICE=%s has no value after %s=", w.Spec, key)
	}
	switch key {
	case "LABEL":
		return func(d Device) bool { return d.Super.Label == value }, nil
	case "UUID":
		return func(d Device) bool { return strings.EqualFold(d.Super.UUID, value) }, nil
	case "PARTLABEL":
		return func(d Device) bool { return d.PartLabel == value }, nil
	case "PARTUUID":
		return func(d Device) bool { return strings.EqualFold(d.PartUUID, value) }, nil
	}
	return nil, fmt.Errorf("finding the storage: PV_STORAGE_DEVICE=%s: unknown %s=, use LABEL=, UUID=, PARTLABEL=, PARTUUID=, a path or ubi0:NAME", w.Spec, key)
}

// usual reports whether a device is the storage of a machine whose configuration does not
// name it, as that of a BSP for many machines does not.
func (w Want) usual(d Device) bool {
	named := w.BootPart != "" && strings.EqualFold(d.PartUUID, w.BootPart)
	return (strings.HasPrefix(d.Super.Type, "ext") || d.Super.Type == ubifs) && (named || slices.Contains(usualLabels, d.Super.Label))
}

// samePath reports whether two paths, perhaps links such as /dev/disk/..., are the same
// device.
func samePath(a, b string) bool {
	real, err := filepath.EvalSymlinks(a)
	return err == nil && real == b
}

const sysBlock = "/sys/class/block"

// scan returns all block devices and UBI volumes. A device that cannot be read (an empty card reader) has no
// file system.
func scan() []Device {
	entries, _ := os.ReadDir(sysBlock) // without sysfs there are no devices
	var out []Device
	tables := map[string]*gpt{}
	for _, e := range entries {
		if d, ok := inspect(e.Name(), tables); ok {
			out = append(out, d)
		}
	}
	return append(out, ubiVolumes()...)
}

func inspect(name string, tables map[string]*gpt) (Device, bool) {
	d := Device{Path: "/dev/" + name, Sys: filepath.Join(sysBlock, name), Disk: name}
	if size, err := sysNumber(d.Sys, "size"); err != nil || size == 0 {
		return d, false
	}
	if n, err := sysNumber(d.Sys, "partition"); err == nil {
		d.Partition = int(n)
		if real, err := filepath.EvalSymlinks(d.Sys); err == nil {
			d.Disk = filepath.Base(filepath.Dir(real))
		}
	} else if partitioned(d.Sys, name) {
		return d, false // scan inspects its partitions
	}
	f, err := os.Open(d.Path)
	if err != nil {
		return d, true
	}
	defer f.Close()
	d.Super, _, _ = probe(f) // an unreadable device counts as empty
	if d.Partition > 0 {
		d.PartLabel, d.PartUUID = tableNames(d, tables)
	}
	return d, true
}

func partitioned(sys, name string) bool {
	m, _ := filepath.Glob(filepath.Join(sys, name+"*", "partition"))
	return len(m) > 0
}

// tableNames returns the partition's name and unique ID from its disk's table.
func tableNames(d Device, tables map[string]*gpt) (label, id string) {
	g, seen := tables[d.Disk]
	if !seen {
		g = openTable(d.diskPath())
		tables[d.Disk] = g
	}
	if g == nil {
		return "", mbrID(d)
	}
	e, ok := g.entry(d.Partition)
	if !ok {
		return "", ""
	}
	return utf16le(e[56:128]), guid(e[16:32])
}

func openTable(path string) *gpt {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	size, sector, err := geometry(f)
	if err != nil {
		return nil
	}
	g, err := readGPT(f, size, sector)
	if err != nil {
		return nil
	}
	return g
}

// mbrID returns the PARTUUID of an MBR partition: disk signature and partition number.
func mbrID(d Device) string {
	f, err := os.Open(d.diskPath())
	if err != nil {
		return ""
	}
	defer f.Close()
	b := make([]byte, 512)
	if _, err := f.ReadAt(b, 0); err != nil || b[510] != 0x55 || b[511] != 0xAA {
		return ""
	}
	return fmt.Sprintf("%02x%02x%02x%02x-%02x", b[443], b[442], b[441], b[440], d.Partition)
}

// guid formats a GUID, whose first three fields are little-endian on the disk.
func guid(b []byte) string {
	return uuid([]byte{b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]})
}

func describe(devices []Device) string {
	if len(devices) == 0 {
		return "none (is the disk's driver among the early modules, and for raw flash ubi.mtd=NAME among the kernel's arguments?)"
	}
	var out []string
	for _, d := range devices {
		s := d.Path
		if d.Super.Type != "" {
			s += " (" + d.Super.Type + " " + strconv.Quote(d.Super.Label) + ")"
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

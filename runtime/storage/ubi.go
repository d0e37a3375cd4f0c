package storage

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// ubiClass has the UBI devices (ubi0) and their volumes (ubi0_0) of raw flash. It is a
// variable for tests.
var ubiClass = "/sys/class/ubi"

var (
	// ubiName is a volume as mount takes it, by name or by number: ubi0:boot, ubi0_0.
	ubiName = regexp.MustCompile(`^ubi\d+(:.+|_\d+)$`)
	// ubiEntry is a volume's entry in the class.
	ubiEntry = regexp.MustCompile(`^(ubi\d+)_\d+$`)
)

// ubifs is the only file system of a UBI volume, which has no superblock to look at
// through a block device.
const ubifs = "ubifs"

// ubiVolumes returns the volumes of all attached UBI devices. The label of their file
// system is the volume's name.
func ubiVolumes() []Device {
	entries, _ := os.ReadDir(ubiClass) // without UBI there are no volumes
	var out []Device
	for _, e := range entries {
		m := ubiEntry.FindStringSubmatch(e.Name())
		sys := filepath.Join(ubiClass, e.Name())
		label, err := os.ReadFile(filepath.Join(sys, "name"))
		if m == nil || err != nil {
			continue
		}
		super := Super{Type: ubifs, Label: strings.TrimSuffix(string(label), "\n")}
		out = append(out, Device{Path: m[1] + ":" + super.Label, Sys: sys, Disk: m[1], Super: super})
	}
	return out
}

// ubiMatcher matches the volume that a specification names.
func ubiMatcher(spec string) func(Device) bool {
	return func(d Device) bool {
		return d.Super.Type == ubifs && (d.Path == spec || filepath.Base(d.Sys) == spec)
	}
}

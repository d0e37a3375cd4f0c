package storage

import (
	"os"
	"path/filepath"
	"strings"
)

// ubiClass has the UBI devices (ubi0) and their volumes (ubi0_0) of raw flash. It is a
// variable for tests.
var ubiClass = "/sys/class/ubi"

// ubifs is the only file system of a UBI volume, which has no superblock to look at
// through a block device.
const ubifs = "ubifs"

// ubiVolumes returns the volumes of all attached UBI devices. The label of their file
// system is the volume's name.
func ubiVolumes() []Device {
	entries, _ := os.ReadDir(ubiClass) // without UBI there are no volumes
	var out []Device
	for _, e := range entries {
		disk, number := cutUBI(e.Name())
		sys := filepath.Join(ubiClass, e.Name())
		label, err := os.ReadFile(filepath.Join(sys, "name"))
		if !isUBINumber(number) || err != nil {
			continue
		}
		super := Super{Type: ubifs, Label: strings.TrimSuffix(string(label), "\n")}
		out = append(out, Device{Path: disk + ":" + super.Label, Sys: sys, Disk: disk, Super: super})
	}
	return out
}

// isUBI reports whether a name is that of a volume as mount takes it, by name or by number:
// ubi0:boot, ubi0_0.
func isUBI(name string) bool {
	_, volume := cutUBI(name)
	return len(volume) > 1 && volume[0] == ':' || isUBINumber(volume)
}

const digits = "0123456789"

// cutUBI cuts a volume's name behind that of its device, ubi0. For other names volume is "".
func cutUBI(name string) (device, volume string) {
	number, found := strings.CutPrefix(name, "ubi")
	volume = strings.TrimLeft(number, digits)
	if !found || volume == number {
		return "", ""
	}
	return strings.TrimSuffix(name, volume), volume
}

// isUBINumber reports whether what follows the device is the number of a volume: _0.
func isUBINumber(volume string) bool {
	number, found := strings.CutPrefix(volume, "_")
	return found && number != "" && strings.Trim(number, digits) == ""
}

// ubiMatcher matches the volume that a specification names.
func ubiMatcher(spec string) func(Device) bool {
	return func(d Device) bool {
		return d.Super.Type == ubifs && (d.Path == spec || filepath.Base(d.Sys) == spec)
	}
}

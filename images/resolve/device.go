package resolve

import (
	"encoding/json"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/bounded"
)

// listed is an element of a list in device.json.
type listed struct {
	Name string `json:"name"`
}

// deviceNames returns the groups and disks of the device, for containers that name them:
// those of device.json in stepskel, or else the default groups and no disk. Nil is returned
// for what cannot be read; the step that needs the file reports it.
func deviceNames(defaults build.Source, stepskel *build.Source) (groups, disks []string) {
	var device struct {
		Groups []listed `json:"groups"`
		Disks  []listed `json:"disks"`
	}
	if stepskel != nil && readJSON(stepskel.File("device.json"), &device) {
		return names(device.Groups), names(device.Disks)
	}
	groups, disks = []string{}, []string{}
	var list []listed
	if readJSON(defaults.File("groups.json"), &list) {
		groups = names(list)
	}
	if stepskel == nil {
		return groups, disks
	}
	if readJSON(stepskel.File("groups.json"), &list) {
		groups = names(list)
	}
	for _, file := range []string{"disks.json", "disks_v2.json", "disks_v3.json"} {
		if readJSON(stepskel.File(file), &list) {
			disks = append(disks, names(list)...)
		}
	}
	return groups, disks
}

// maxList bounds a file with groups or disks, in bytes.
const maxList = 1 << 20

func readJSON(file string, v any) bool {
	data, err := bounded.ReadRegular(file, maxList)
	return err == nil && json.Unmarshal(data, v) == nil
}

func names(list []listed) []string {
	out := []string{}
	for _, one := range list {
		out = append(out, one.Name)
	}
	return out
}

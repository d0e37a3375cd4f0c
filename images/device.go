package images

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/fragment"
)

// maxGroups bounds groups.json, in bytes; the device reads no larger one either.
const maxGroups = 1 << 20

// Device is the step that makes device.json: groups, the volumes of the runtime and the
// network pool (manual: Pantavisor State Format, device.json). A board can replace it
// with a file in vendors/PLATFORM/stepskel.
//
// It defines no encrypted disk: the kernel's dm modules and cryptsetup are not in
// the initrd, so the runtime's volumes are directories on the storage.
type Device struct {
	// Defaults is the directory with groups.json.
	Defaults build.Source `json:"-"`
}

var (
	_ build.Step      = (*Device)(nil)
	_ build.Versioned = (*Device)(nil)
	_ build.Sourced   = (*Device)(nil)
	_ keyed           = (*Device)(nil)
)

// Name of the step.
func (s *Device) Name() string { return "trail/device" }

// Version of the step's logic.
func (s *Device) Version() int { return 1 }

// Deps is empty.
func (s *Device) Deps() []build.Step { return nil }

func (s *Device) groups() string { return groupsOf(s.Defaults) }

func groupsOf(defaults build.Source) string { return defaults.File("groups.json") }

// CheckGroups checks that the directory of defaults has groups.json, in JSON.
func CheckGroups(defaults build.Source) error {
	text, err := bounded.ReadRegular(groupsOf(defaults), maxGroups)
	if err == nil && !json.Valid(text) {
		err = errors.New("it is not JSON")
	}
	return fault.Wrap(fault.BadInput, err, "reading groups.json")
}

// Sources are the default groups.
func (s *Device) Sources() ([]build.Source, error) {
	out := []build.Source{{Name: s.Defaults.Name + "/groups.json", Path: s.groups()}}
	return out, missing(out)
}

// deviceKey is the one key of the part.
const deviceKey = "device.json"

// Keys are the keys of the state.
func (s *Device) Keys() []string { return []string{deviceKey} }

// Run writes the part.
func (s *Device) Run(_ context.Context, w *build.Work) error {
	groups, err := bounded.ReadRegular(s.groups(), maxGroups)
	if err != nil {
		return unread("groups.json", err)
	}
	type object = map[string]any
	permanent := object{"persistence": "permanent"}
	text, err := json.Marshal(object{
		"groups": json.RawMessage(groups),
		"volumes": object{
			"pv--devmeta": permanent, "pv--usrmeta": permanent, "pv--phconfig": permanent,
			"pv--firmware": object{"persistence": "boot"},
		},
		"network": object{"pools": object{"pvcnet": object{
			"type": "bridge", "bridge": "lxcbr0", "subnet": "10.0.3.0/24", "gateway": "10.0.3.1", "nat": true,
		}}},
	})
	if err != nil {
		return fault.Wrap(fault.BadInput, err, "reading the default groups")
	}
	p, err := fragment.Create(w.Out)
	if err != nil {
		return err
	}
	if err := p.AddValue(deviceKey, text); err != nil {
		return err
	}
	return p.Close()
}

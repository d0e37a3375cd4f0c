package catalogue

import (
	"encoding/json"
	"slices"

	"github.com/pantavisor/pantavisor/ci/releases"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Indents of channels, versions, their members and devices in a catalogue.
const (
	indentChannel = "  "
	indentVersion = "    "
	indentMember  = "      "
	indentDevice  = "        "
)

// change changes one version in the text of a catalogue, nil for one that is not there yet.
func change(text []byte, channel, version string, do func(old []byte) ([]byte, error)) ([]byte, error) {
	if len(text) == 0 {
		text = []byte("{}\n")
	}
	if !json.Valid(text) {
		return nil, fault.New(fault.BadInput, "%s is not valid JSON: mend it, or bring back an earlier one", releases.CatalogueName)
	}
	out, err := edit(text, channel, indentChannel, func(old []byte) ([]byte, error) {
		if old == nil {
			old = []byte("{}")
		}
		out, err := edit(old, version, indentVersion, do)
		if err == nil && string(out) == "{}" {
			out = nil // do did not add the first version
		}
		return out, err
	})
	return out, fault.Wrap(fault.BadInput, err, "reading the channel %s in %s", channel, releases.CatalogueName)
}

// withDevice returns a version with a device, in its place when it has one of the name.
func withDevice(old []byte, date string, d releases.Device) ([]byte, error) {
	text, err := json.MarshalIndent(d, indentDevice, "  ")
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "writing a device")
	}
	if old == nil {
		v := []byte("{\n" + indentVersion + "}")
		if v, err = edit(v, "release-date", indentMember, constant(date)); err != nil {
			return nil, err
		}
		return edit(v, "devices", indentMember, func([]byte) ([]byte, error) {
			return list([]json.RawMessage{text}, indentDevice), nil
		})
	}
	return editDevices(old, func(all []json.RawMessage) []json.RawMessage {
		end := len(all) // before the entries without a name, as the time in older files
		for i, e := range all {
			switch name := nameOf(e); {
			case name == d.Name:
				all[i] = text
				return all
			case name == "":
				end = min(end, i)
			}
		}
		return slices.Insert(all, end, json.RawMessage(text))
	})
}

// withoutDevice returns a version without a device, nil when there is no other.
func withoutDevice(old []byte, name string) ([]byte, error) {
	if old == nil {
		return nil, nil
	}
	left := 0
	out, err := editDevices(old, func(all []json.RawMessage) []json.RawMessage {
		all = slices.DeleteFunc(all, func(e json.RawMessage) bool { return nameOf(e) == name })
		for _, e := range all {
			if nameOf(e) != "" {
				left++
			}
		}
		return all
	})
	if left == 0 {
		return nil, err
	}
	return out, err
}

// editDevices changes the devices of a version, which is an object or, in older files, their list.
func editDevices(old []byte, do func(all []json.RawMessage) []json.RawMessage) ([]byte, error) {
	change := func(old []byte) ([]byte, error) {
		if old == nil {
			old = []byte("[]")
		}
		all, err := elements(old)
		if err != nil {
			return nil, err
		}
		return list(do(all), indentDevice), nil
	}
	if old[blank(old, 0)] == '[' {
		return change(old)
	}
	return edit(old, "devices", indentMember, change)
}

// nameOf returns the name of a device, "" for none.
func nameOf(e json.RawMessage) string {
	var d struct {
		Name string `json:"name"`
	}
	if json.Unmarshal(e, &d) != nil {
		return ""
	}
	return d.Name
}

// constant returns a change to a text.
func constant(text string) func([]byte) ([]byte, error) {
	return func([]byte) ([]byte, error) { return json.Marshal(text) }
}

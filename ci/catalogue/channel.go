package catalogue

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"

	"github.com/pantavisor/pantavisor/ci/releases"
	"github.com/pantavisor/pantavisor/ci/store"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// channelIndent is that of the members of a channel's file.
const channelIndent = "    "

// ChannelDevice is a device in the file of a channel, with the newest images that were made for it.
type ChannelDevice struct {
	// Name is its name in the project, as rpi3_initial.
	Name string `json:"name"`
	// Device is that of the Hub which the images were made from, USER/NAME; "" without a Hub.
	Device  string `json:"device,omitempty"`
	Version string `json:"version"`
	Date    string `json:"date"` // UTC, to the minute; default: now
	// BSP, Pantavisor and PVR are the versions of these.
	BSP        string         `json:"bsp,omitempty"`
	Pantavisor string         `json:"pantavisor,omitempty"`
	PVR        string         `json:"pvr,omitempty"`
	Images     []ChannelImage `json:"images"`
}

// ChannelImage is an image of a device.
type ChannelImage struct {
	Build  string `json:"build"`  // its name in device-ci.conf.json
	Target string `json:"target"` // what it was built for
	Kind   string `json:"kind"`   // img, tezi, rootfs or appengine
	URL    string `json:"url"`
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
}

// register puts a device into CHANNEL.json of a project: an object with the channel, which has a list
// of devices. It takes the place of an older version of the same device; an older version than the
// one that is there changes nothing.
func register(ctx context.Context, s *store.Store, channel string, d ChannelDevice, o Options) error {
	if err := releases.CheckChannel(channel); err != nil {
		return err
	}
	if channel+".json" == releases.CatalogueName || channel+".json" == boardsName {
		return fault.New(fault.BadInput, "a channel cannot be named %s: that is another file of the catalogue", channel)
	}
	if d.Name == "" || d.Version == "" {
		return fault.New(fault.BadInput, "a device of a channel has a name and a version")
	}
	d.Date = cmp.Or(d.Date, o.date())
	if o.DryRun {
		return nil
	}
	return s.Update(ctx, channel+".json", maxBoard, func(text []byte) ([]byte, error) {
		if len(text) == 0 {
			text = []byte("{}\n")
		}
		if !json.Valid(text) {
			return nil, fault.New(fault.BadInput, "%s.json is not valid JSON: mend it, or bring back an earlier one", channel)
		}
		out, err := edit(text, channel, indentChannel, func(old []byte) ([]byte, error) {
			if old == nil {
				old = []byte("{}")
			}
			return edit(old, "devices", channelIndent, func(old []byte) ([]byte, error) { return withChannelDevice(old, d) })
		})
		return out, fault.Wrap(fault.BadInput, err, "reading %s.json", channel)
	})
}

// withChannelDevice returns a list of devices with another one.
func withChannelDevice(old []byte, d ChannelDevice) ([]byte, error) {
	var all []json.RawMessage
	if old != nil {
		var err error
		if all, err = elements(old); err != nil {
			return nil, err
		}
	}
	at := len(all)
	for i, e := range all {
		var was ChannelDevice
		if json.Unmarshal(e, &was) != nil || was.Name != d.Name {
			continue
		}
		at = i
		switch order := releases.Compare(was.Version, d.Version); {
		case order > 0:
			return old, nil
		case order == 0:
			d.Date = cmp.Or(was.Date, d.Date)
			d.Images = mergeImages(was.Images, d.Images)
		}
	}
	text, err := json.MarshalIndent(d, indentMember, "  ")
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "writing a device")
	}
	if at == len(all) {
		all = append(all, nil)
	}
	all[at] = text
	return list(all, indentMember), nil
}

// mergeImages returns the images of a version: its builds are registered one after another.
func mergeImages(was, more []ChannelImage) []ChannelImage {
	out := slices.Clone(more)
	for _, i := range was {
		if !slices.ContainsFunc(more, func(m ChannelImage) bool { return m.Build == i.Build }) {
			out = append(out, i)
		}
	}
	slices.SortStableFunc(out, func(a, b ChannelImage) int {
		return cmp.Or(cmp.Compare(a.Build, b.Build), cmp.Compare(a.Target, b.Target))
	})
	return out
}

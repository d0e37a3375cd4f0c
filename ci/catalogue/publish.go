package catalogue

import (
	"context"
	"strings"

	"github.com/pantavisor/pantavisor/ci/releases"
	"github.com/pantavisor/pantavisor/ci/store"
)

// Promoted is a build of a device's promoted revision.
type Promoted struct {
	Dir     string // with the results of mage build
	Device  string // its name in the project
	Hub     string // the device that the image has the revision of
	Build   string // the name of the build
	Target  string
	Version string // the tag
	Channel string
}

// name is what the catalogue calls a build: the device, and the build if it is not the only kind.
func (p Promoted) name() string {
	if p.Build == "default" {
		return p.Device
	}
	return p.Device + "-" + p.Build
}

// Publish adds a build to the catalogue, and its images to the file of the channel.
func (p Promoted) Publish(ctx context.Context, s *store.Store, o Options) (*Added, error) {
	add := AddOptions{Options: o, Version: p.Version, Channel: p.Channel, Name: p.name(), Board: releases.Board{Description: p.Device + " for " + p.Target}}
	added, err := Add(ctx, s, add, []string{p.Dir})
	if err != nil {
		return nil, err
	}
	d := ChannelDevice{Name: p.Device, Device: p.Hub, Version: p.Version}
	for _, f := range added[0].index.Files {
		if kind := p.imageKind(&f); kind != "" {
			url := o.link(s, directoryOf(p.Version, p.name())+f.Name)
			d.Images = append(d.Images, ChannelImage{Build: p.Build, Target: p.Target, Kind: kind, URL: url, SHA256: f.SHA256, Bytes: f.Bytes})
		}
	}
	return &added[0], register(ctx, s, p.Channel, d, o)
}

// imageKind is the kind of an image in the file of a channel, "" for other files.
func (p Promoted) imageKind(f *releases.File) string {
	switch {
	case f.Kind == "installer":
		return "tezi"
	case f.Kind == "rootfs":
		return "rootfs"
	case f.Kind == "image":
		return "img"
	case f.Kind == "package" && strings.Contains(p.Target, "appengine"):
		return "appengine"
	}
	return ""
}

// Package releases has the forms of what is released, and reads them from directories and addresses:
//
//   - index.json, the list of the files of one release (docs/release.md)
//   - releases.json, a catalogue: an object keyed by channel, then by version, of which each has a list
//     of devices with the addresses and digests of their files. It is the form that flashing programs
//     read; older files have for a version only the list, at whose end may be an entry with a timestamp
//
// Package ci/catalogue writes them.
package releases

import (
	"bytes"
	"cmp"
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/spelling"
)

// CatalogueName is the file of a catalogue.
const CatalogueName = "releases.json"

// MaxCatalogue bounds the size of a catalogue, in bytes.
const MaxCatalogue = 64 << 20

// The channels of versions; further ones have names of their own.
const (
	Stable    = "stable"
	Candidate = "release-candidate"
	Unknown   = "unknown"
)

// Catalogue is what releases.json has: versions by channel and name.
type Catalogue map[string]map[string]*Version

// Version is a version of all devices that it was released for.
type Version struct {
	// Date is when the first device was released, in UTC to the minute, as other programs wrote it.
	Date    string   `json:"release-date,omitempty"`
	Docs    *Docs    `json:"docs,omitempty"`
	Devices []Device `json:"devices"`
}

// Docs is the archive of the documents of a version.
type Docs struct {
	Name string `json:"name"`
	Hash string `json:"hash"`
	URL  string `json:"url"`
}

// Device is the release of a version for one device, or machine, or board.
type Device struct {
	Name       string `json:"name"`
	FullImage  *Link  `json:"full_image,omitempty"` // a tar.gz with the image
	PVRExports *Link  `json:"pvrexports,omitempty"` // a zip of all exports
	BSP        *Link  `json:"bsp,omitempty"`        // the export of the BSP
	SDK        *Link  `json:"sdk,omitempty"`
	// Release is the index of all files, which other programs than ours do not write.
	Release *Link `json:"release,omitempty"`
}

// Links returns the files of a device by their keys.
func (d Device) Links() map[string]*Link {
	out := map[string]*Link{}
	for key, l := range map[string]*Link{"full_image": d.FullImage, "pvrexports": d.PVRExports, "bsp": d.BSP, "sdk": d.SDK, "release": d.Release} {
		if l != nil {
			out[key] = l
		}
	}
	return out
}

// Link is a file: its address, which may be relative to that of the catalogue, and its digest in hex.
type Link struct {
	URL    string `json:"url"`
	SHA256 string `json:"sha256"`
}

// version is a Version without its method.
type version Version

// UnmarshalJSON implements json.Unmarshaler: a version of older files is a bare list, and the time
// may be called timestamp.
func (v *Version) UnmarshalJSON(text []byte) error {
	if !bytes.HasPrefix(bytes.TrimSpace(text), []byte("[")) {
		var whole struct {
			version
			Timestamp string `json:"timestamp"`
		}
		if err := json.Unmarshal(text, &whole); err != nil {
			return err
		}
		*v = Version(whole.version)
		v.Date = cmp.Or(v.Date, whole.Timestamp)
		return nil
	}
	var list []struct {
		Device
		Timestamp string `json:"timestamp"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return err
	}
	for _, e := range list {
		if e.Name == "" {
			v.Date = cmp.Or(v.Date, e.Timestamp)
			continue
		}
		v.Devices = append(v.Devices, e.Device)
	}
	return nil
}

// ParseCatalogue reads a catalogue.
func ParseCatalogue(text []byte) (Catalogue, error) {
	var c Catalogue
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, fault.New(fault.BadInput, "it is not a catalogue of releases, an object of channels with objects of versions: %w", err)
	}
	for channel, versions := range c {
		for name, v := range versions {
			if v == nil {
				return nil, fault.New(fault.BadInput, "it is not a catalogue of releases: version %.100q of the channel %.100q is null", name, channel)
			}
		}
	}
	return c, nil
}

// Found is a device of a catalogue.
type Found struct {
	Channel string `json:"channel"`
	Version string `json:"version"`
	Device
}

// Find returns the device of a name: of the version if it is not "", of the channel if it is not "",
// else the newest of the channel "stable".
func (c Catalogue) Find(name, channel, version string) (*Found, error) {
	var all []Found
	var names []string
	for ch, versions := range c {
		for v, release := range versions {
			for _, d := range release.Devices {
				names = append(names, d.Name)
				if d.Name == name {
					all = append(all, Found{ch, v, d})
				}
			}
		}
	}
	if len(all) == 0 {
		slices.Sort(names)
		return nil, fault.Wrap(fault.Missing, spelling.Unknown("device", name, slices.Compact(names)), "looking in the catalogue")
	}
	if channel == "" && version == "" {
		channel = Stable
	}
	slices.SortFunc(all, func(a, b Found) int {
		return cmp.Or(Compare(b.Version, a.Version), strings.Compare(a.Channel, b.Channel))
	})
	var there []string
	for _, f := range all {
		if (channel == "" || f.Channel == channel) && (version == "" || f.Version == version) {
			return &f, nil
		}
		there = append(there, f.Version+" ("+f.Channel+")")
	}
	const most = 10
	if more := len(there) - most; more > 0 {
		there = append(there[:most], "and older ones")
	}
	return nil, fault.New(fault.Missing, "the catalogue has no release of %s%s%s; it has %s (--channel, --version)", name, named(" in the channel ", channel), named(" of the version ", version), strings.Join(there, ", "))
}

func named(text, value string) string {
	if value == "" {
		return ""
	}
	return text + value
}

// suffix is the end of a version that names a channel.
var suffix = regexp.MustCompile(`^[a-z][a-z0-9_]*(-[a-z0-9_]+)*$`)

// candidate is the end of the version of a release candidate.
var candidate = regexp.MustCompile(`^rc[.-]?[0-9]*$`)

// ChannelOf returns the channel of a version, or tag: without "-" it is stable, with "-rc" and a
// number a release candidate, with "-NAME" of the channel of that name.
func ChannelOf(version string) string {
	_, end, found := strings.Cut(version, "-")
	switch {
	case !found:
		return Stable
	case candidate.MatchString(end):
		return Candidate
	case suffix.MatchString(end):
		return end
	}
	return Unknown
}

// channelName matches names of channels, which are those of files, too.
var channelName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,99}$`)

// CheckChannel returns an error for a name that a channel cannot have.
func CheckChannel(name string) error {
	if !channelName.MatchString(name) {
		return fault.New(fault.BadInput, "%.100q is not a valid name of a channel: it has up to 100 small letters, digits and . _ -, and begins with a letter or digit", name)
	}
	return nil
}

// chunk is a run of digits or of others.
var chunk = regexp.MustCompile(`[0-9]+|[^0-9]+`)

// Compare compares two versions: runs of digits as numbers, others as text. What begins with "-" or
// "~" is before the same version without it: 1.0-rc2 < 1.0 < 1.0.1.
func Compare(a, b string) int {
	x, y := chunk.FindAllString(a, -1), chunk.FindAllString(b, -1)
	for i := range max(len(x), len(y)) {
		var p, q string
		if i < len(x) {
			p = x[i]
		}
		if i < len(y) {
			q = y[i]
		}
		if c := compareChunks(p, q); c != 0 {
			return c
		}
	}
	return strings.Compare(a, b)
}

func compareChunks(p, q string) int {
	if isNumber(p) && isNumber(q) {
		p, q = strings.TrimLeft(p, "0"), strings.TrimLeft(q, "0")
		return cmp.Or(cmp.Compare(len(p), len(q)), strings.Compare(p, q))
	}
	return cmp.Or(cmp.Compare(rank(p), rank(q)), strings.Compare(p, q))
}

func isNumber(s string) bool { return s != "" && s[0] >= '0' && s[0] <= '9' }

// rank orders what a version may go on with: a preliminary form, nothing, more.
func rank(s string) int {
	switch {
	case s == "":
		return 1
	case s[0] == '-' || s[0] == '~':
		return 0
	}
	return 2
}

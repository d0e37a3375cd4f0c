// Package containers makes packages of containers for devices: of one image in a registry, an OCI layout or
// an archive, an export for each architecture, with signature and bill of materials. It takes and makes the
// files of container-ci (article "Build pvr package artifacts using container-ci"):
//
//	container-ci.conf                     PLATFORMS, those of the image
//	pvpkg.json                            name and version of the package
//	pvpkg/ARCH/CONTAINER/src.json         what the container is made of, for one architecture
//	releases/ARCH/                        a checkout of pvr with the container and its signature
//	releases/NAME-VERSION-BUILD.ARCH.tgz  its export, and its bill of materials .spdx.json
//	releases/packages.json                the index of the packages
//
// It needs no container engine and no privileges. The same commit and the same images give the same bytes.
package containers

import (
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// Platform is an architecture of devices.
type Platform struct {
	// Docker is its name for images, as in docker --platform; Dir that of its directories and exports.
	Docker, Dir string
}

// platforms are all platforms. The first six are those of the article, which a new project has.
var platforms = []Platform{
	{"linux/amd64", "amd64"},
	{"linux/arm/v6", "arm32v6"},
	{"linux/arm/v7", "arm32v7"},
	{"linux/arm64", "arm64v8"},
	{"linux/mips", "mips"},
	{"linux/riscv64", "riscv64"},
	{"linux/arm/v5", "arm32v5"},
	{"linux/mipsle", "mipsle"},
	{"linux/386", "i386"},
}

// usual is how many of the platforms a new project has.
const usual = 6

// synonyms are further names of platforms.
var synonyms = map[string]string{
	"linux/arm": "linux/arm/v7", "linux/arm64/v8": "linux/arm64", "linux/aarch64": "linux/arm64", "linux/x86_64": "linux/amd64",
}

// Known returns the names of all platforms, as in docker --platform.
func Known() []string {
	var names []string
	for _, p := range platforms {
		names = append(names, p.Docker)
	}
	return names
}

// parsePlatforms reads lists of platforms by commas or blanks, in their order and each once. The error names
// all that are not known.
func parsePlatforms(lists ...string) ([]Platform, error) {
	var out []Platform
	var unknown []string
	for _, word := range strings.FieldsFunc(strings.Join(lists, ","), func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' }) {
		name := strings.ToLower(word)
		if other, ok := synonyms[name]; ok {
			name = other
		}
		at := slices.IndexFunc(platforms, func(p Platform) bool { return p.Docker == name || p.Dir == name })
		switch {
		case at < 0:
			unknown = append(unknown, word)
		case !slices.Contains(out, platforms[at]):
			out = append(out, platforms[at])
		}
	}
	if len(unknown) > 0 {
		return nil, fault.New(fault.BadInput, "platform %s: not known; there are %s", strings.Join(unknown, ", "), strings.Join(Known(), ", "))
	}
	return out, nil
}

// ofDirectory returns the platform whose directories have a name.
func ofDirectory(name string) (Platform, bool) {
	at := slices.IndexFunc(platforms, func(p Platform) bool { return p.Dir == name })
	if at < 0 {
		return Platform{}, false
	}
	return platforms[at], true
}

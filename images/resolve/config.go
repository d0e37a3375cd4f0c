package resolve

import (
	"cmp"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/images/layouts"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/layers"
	"github.com/pantavisor/pantavisor/targets"
)

// config finds the configuration files: config/PLATFORM, vendors/PLATFORM and the trusted
// certificates and keys.
func (p *providers) config() (images.Config, error) {
	trust, err := p.trust()
	return images.Config{
		Runtime:  p.setting("pantavisor.config"),
		Derived:  layouts.Settings(p.target, p.Debug),
		Defaults: p.defaults(),
		Hub:      p.setting("pantahub.config"),
		Image:    p.optional("image.config"),
		Skel:     p.vendors("skel"),
		Stepskel: p.vendors("stepskel"),
		Trust:    trust,
	}, err
}

// generic is the platform whose files of config/ are those of every platform without its
// own.
const generic = "generic"

// platforms are the names below config/ and vendors/ that are for the target, the first one
// first: its own, and that of its platform, which may be its base's.
func (p *providers) platforms() []string {
	if p.target.Platform == "" || p.target.Platform == p.target.Name {
		return []string{p.target.Name}
	}
	return []string{p.target.Name, p.target.Platform}
}

// setting returns a file of config/ of the first platform that has it, or else the generic
// one.
func (p *providers) setting(name string) build.Source {
	if s := p.optional(name); s != nil {
		return *s
	}
	return p.file(path.Join("config", p.target.Name, name))
}

// optional is setting for a file that may be absent; it then returns nil.
func (p *providers) optional(name string) *build.Source {
	for _, platform := range append(p.platforms(), generic) {
		if place, ok := p.Layers.Find(path.Join("config", platform, name)); ok {
			return &build.Source{Name: place.Name, Path: place.Path}
		}
	}
	return nil
}

// vendors returns a directory of vendors/ with the files of all platforms.
func (p *providers) vendors(name string) *build.Source {
	return p.layered("vendors", p.platforms(), name)
}

// VEX returns the files with statements about vulnerabilities of a target: those of
// config/PLATFORM/vex, with the files of all layers and platforms, those for every platform below. Their
// names are those of the files in these directories.
func VEX(t *targets.Target, l *layers.Layers) ([]build.Source, error) {
	p := &providers{Options: Options{Layers: l}, target: t}
	dir := p.layered("config", append(p.platforms(), generic), "vex")
	if dir == nil {
		return nil, nil
	}
	var names []string
	for _, d := range dir.Dirs() {
		entries, err := os.ReadDir(d)
		if err != nil {
			return nil, fault.Wrap(fault.IO, err, "looking for statements about vulnerabilities")
		}
		for _, e := range entries {
			if path.Ext(e.Name()) == ".json" {
				names = append(names, e.Name())
			}
		}
	}
	slices.Sort(names)
	var out []build.Source
	for _, name := range slices.Compact(names) {
		out = append(out, build.Source{Name: name, Path: dir.File(name)})
	}
	return out, nil
}

// statements returns the statements about vulnerabilities of the target.
func (p *providers) statements() ([]images.Received, error) {
	files, err := VEX(p.target, p.Layers)
	step := &images.Statements{Files: files}
	var out []images.Received
	for _, f := range files {
		out = append(out, images.Received{Name: f.Name, From: images.Artefact{Step: step, File: f.Name}})
	}
	return out, err
}

// layered returns a directory with the files of several platforms, the first one on top; nil when
// none has it.
func (p *providers) layered(top string, platforms []string, name string) *build.Source {
	var out *build.Source
	for _, platform := range slices.Backward(platforms) {
		s := p.directory(top, platform, name)
		if s != nil && out != nil {
			s.Under = append(append(s.Under, out.Path), out.Under...)
		}
		out = cmp.Or(s, out)
	}
	return out
}

// file returns a file of the first layer that has it.
func (p *providers) file(name string) build.Source {
	place, _ := p.Layers.Find(name)
	return build.Source{Name: place.Name, Path: place.Path}
}

// directory returns a directory with the files of all layers that have it, nil when none
// has it.
func (p *providers) directory(parts ...string) *build.Source {
	places := p.Layers.Every(path.Join(parts...))
	if len(places) == 0 {
		return nil
	}
	top := len(places) - 1
	s := build.Source{Name: places[top].Name, Path: places[top].Path}
	for _, below := range slices.Backward(places[:top]) {
		s.Under = append(s.Under, below.Path)
	}
	return &s
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// defaults returns config/defaults of all layers.
func (p *providers) defaults() build.Source {
	if all := p.directory("config/defaults"); all != nil {
		return *all
	}
	return p.file("config/defaults")
}

// trust returns the certificates and keys for signatures: those of the options, or else
// those of the workspace. No other layer is trusted.
func (p *providers) trust() ([]build.Source, error) {
	given := map[string]string{"ca-certificates.crt": p.TrustCertificates, "pub.pem": p.TrustKey}
	var out []build.Source
	for _, name := range []string{"ca-certificates.crt", "ca-oem-certificates.crt", "pub.pem"} {
		file := given[name]
		if file == "" {
			if file = filepath.Join(p.Layers.Top().Dir, "ca/pvs", name); !exists(file) {
				continue
			}
		}
		if err := checkPEM(file); err != nil {
			return nil, err
		}
		out = append(out, build.Source{Name: name, Path: file})
	}
	return out, nil
}

// maxPEM bounds a file with certificates or keys, in bytes.
const maxPEM = 8 << 20

func checkPEM(file string) error {
	text, err := bounded.ReadRegular(file, maxPEM)
	if err != nil {
		return fault.New(fault.Missing, "reading trusted certificates and keys (PV_PVS_CERT_PEM, PV_PVS_PUB_PEM): %w", err)
	}
	if strings.Contains(string(text), "PRIVATE KEY-----") {
		return fault.New(fault.BadInput, "reading %s: it holds a private key, which must not go into an image", file)
	}
	if !strings.Contains(string(text), "-----BEGIN ") {
		return fault.New(fault.BadInput, "reading %s: it holds no PEM block", file)
	}
	return nil
}

package resolve

import (
	"cmp"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/parts"
	"github.com/pantavisor/pantavisor/targets"
)

var digestForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// given returns the file of a named part and its digest, from the target or else from
// Options.GivenParts; no path when nobody has given it.
func given(t *targets.Target, o Options, name string) (path, digest string) {
	p, variable := t.Parts[name], targets.PartVariable(name)
	if p.File == "" {
		return o.GivenParts[variable], o.GivenParts[variable+"_SHA256"]
	}
	path = p.File
	if o.Layers != nil && !filepath.IsAbs(path) {
		path = filepath.Join(o.Layers.Top().Dir, path)
	}
	return path, p.SHA256
}

// Lacks returns an error for the named parts that the target needs and that nobody has given,
// nil when there are none: without them it makes fewer outputs.
func Lacks(t *targets.Target, o Options) error {
	names := LackedParts(t, o)
	if len(names) == 0 {
		return nil
	}
	return fault.New(fault.Missing, "%s", t.LackText(names...))
}

// LackedParts lists the named parts that the target needs and that nobody has given.
func LackedParts(t *targets.Target, o Options) []string {
	var out []string
	for _, name := range t.PartNames() {
		if lacks(t, o, name) && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// Outputs lists what the target makes with the parts that are given: image, bsp and
// appengine.
func Outputs(t *targets.Target, o Options) []string {
	var out []string
	for _, made := range (&providers{Options: o, target: t}).outputs() {
		out = append(out, cmp.Or(outputNames[made], string(made)))
	}
	slices.Reverse(out) // an image says more than the BSP in it
	return out
}

// outputNames are the words of outputs for people.
var outputNames = map[images.Output]string{
	images.OutputExport: "bsp", images.OutputImage: "image", images.OutputAppEngine: "appengine",
}

func lacks(t *targets.Target, o Options, name string) bool {
	path, _ := given(t, o, name)
	return path == "" && !t.Parts[name].Optional
}

// lacksKernel and lacksMedium report whether the named parts that kernel or media need are
// not given.
func (p *providers) lacksKernel() bool {
	k := p.target.Kernel
	return k != nil && k.Part != "" && lacks(p.target, p.Options, k.Part)
}

func (p *providers) lacksMedium() bool {
	for _, name := range p.target.MediumParts() {
		if lacks(p.target, p.Options, name) {
			return true
		}
	}
	return p.lacksKernel()
}

// leftOut reports whether a part is optional and not given.
func (p *providers) leftOut(name string) bool {
	path, _ := given(p.target, p.Options, name)
	return name != "" && path == "" && p.target.Parts[name].Optional
}

// part returns the file of a named part.
func (p *providers) part(name string) (images.Artefact, error) {
	path, digest := given(p.target, p.Options, name)
	variable := targets.PartVariable(name)
	switch {
	case path == "":
		return images.Artefact{}, fault.New(fault.Missing, "%s", p.target.LackText(name))
	case !digestForm.MatchString(digest):
		return images.Artefact{}, fault.New(fault.BadInput, "part %s: %s_SHA256=%q: want the SHA-256 of %s, 64 hexadecimal digits (sha256sum %s)", name, variable, digest, path, path)
	}
	return images.Artefact{Step: &parts.File{Part: name, SHA256: digest, Path: path}, File: parts.Name}, nil
}

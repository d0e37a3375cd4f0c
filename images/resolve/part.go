package resolve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/parts"
	"github.com/pantavisor/pantavisor/targets"
)

// digestSuffix ends the name of the variable with the digest of a part.
const digestSuffix = "_SHA256"

var digestForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// given returns the file of a named part and its digest, from the target or else from
// Options.GivenParts; no path when nobody has given it.
func given(t *targets.Target, o Options, name string) (path, digest string) {
	p, variable := t.Parts[name], targets.PartVariable(name)
	if p.File == "" {
		return o.GivenParts[variable], strings.ToLower(o.GivenParts[variable+digestSuffix])
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
	text := t.LackText(names...)
	if other := strangers(t, o); len(other) > 0 {
		text += fmt.Sprintf("\nof what is set, this target has no part for %s", strings.Join(other, ", "))
	}
	return fault.New(fault.Missing, "%s", text)
}

// strangers lists the given variables that are for no part of the target.
func strangers(t *targets.Target, o Options) []string {
	var out []string
	for _, variable := range slices.Sorted(maps.Keys(o.GivenParts)) {
		of := func(name string) bool {
			return targets.PartVariable(name) == strings.TrimSuffix(variable, digestSuffix)
		}
		if !slices.ContainsFunc(t.PartNames(), of) {
			out = append(out, variable)
		}
	}
	return out
}

// CheckParts finds what is wrong with the named parts that are given, before anything is built
// and also when others are not given: then no step reads them, so that it compares their
// digests itself.
func CheckParts(ctx context.Context, t *targets.Target, o Options) error {
	var all []error
	p := &providers{Options: o, target: t}
	names, unread := t.PartNames(), len(LackedParts(t, o)) > 0
	for i, name := range names {
		if slices.Index(names, name) < i {
			continue
		}
		path, digest := given(t, o, name)
		switch variable := targets.PartVariable(name); {
		case path == "" && digest != "":
			all = append(all, fault.New(fault.BadInput, "part %s: %s is set, but %s, its file, is not", name, variable+digestSuffix, variable))
		case path != "":
			all = append(all, p.checkPart(ctx, name, unread))
		}
	}
	return errors.Join(all...)
}

func (p *providers) checkPart(ctx context.Context, name string, read bool) error {
	given, err := p.part(name)
	if err != nil {
		return err
	}
	file := given.Step.(*parts.File)
	if read {
		return file.Check(ctx)
	}
	_, err = file.Sources()
	return err
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
		return images.Artefact{}, fault.New(fault.BadInput, "part %s: %s=%q: want the SHA-256 of %s, 64 hexadecimal digits (sha256sum %s)", name, variable+digestSuffix, digest, path, path)
	}
	return images.Artefact{Step: &parts.File{Part: name, SHA256: digest, Path: path}, File: parts.Name}, nil
}

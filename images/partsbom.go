package images

import (
	"context"
	"path"
	"path/filepath"
	"slices"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/kernel"
	"github.com/pantavisor/pantavisor/revision/fragment"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/container"
	"github.com/pantavisor/pantavisor/sbom/part"
)

// PartSBOM is the step that makes the bills of materials of the parts in a fragment of a state: of each
// part its object sbom.spdx.zst, about everything in the part but itself and its signature. Its output
// is a fragment with these objects alone. Parts that have one keep it, and so do parts that somebody
// has signed: an object more would break the signature.
type PartSBOM struct {
	Target, Release string
	Epoch           build.Stamp
	Support         sbom.Support `json:",omitzero"`
	// Made are, for an object of the part, the names of the steps that brought in what it was made
	// of. An object that is not listed was made of everything.
	Made map[string][]string `json:",omitempty"`
	// Given is a document of the BSP of which the packages are taken; nil for none.
	Given *Artefact `json:"given,omitempty"`
	// Part is the step with the fragment.
	Part build.Step `json:"-"`

	origins *origins
}

var (
	_ build.Step = (*PartSBOM)(nil)
	_ keyed      = (*PartSBOM)(nil)
)

// SBOMOf returns the step with the bills of materials of a step of [Inputs].Containers, or of the BSP.
// It is always the same one.
func (in *Inputs) SBOMOf(p build.Step) *PartSBOM {
	if in.sboms[p] == nil {
		if in.sboms == nil {
			in.sboms = map[build.Step]*PartSBOM{}
		}
		in.sboms[p] = in.partSBOM(p)
	}
	return in.sboms[p]
}

func (in *Inputs) partSBOM(p build.Step) *PartSBOM {
	s := &PartSBOM{Target: in.Target, Release: in.Release, Epoch: in.Epoch, Part: p, origins: originsOf(p)}
	if b, ok := p.(*BSP); ok {
		s.Support, s.Given, s.Made = in.Support, in.BSPSBOM, map[string][]string{}
		for _, f := range b.files() {
			s.Made[path.Join("bsp", f.name)] = originsOf(f.from.Step).names()
		}
	}
	return s
}

// Name is "sbom/" and the part's.
func (s *PartSBOM) Name() string { return "sbom/" + s.Part.Name() }

// Deps are the part, and the steps that say what it was made of.
func (s *PartSBOM) Deps() []build.Step {
	out := []build.Step{s.Part}
	needs := s.origins.needs
	if b, ok := s.Part.(*BSP); ok && b.Firmware != nil {
		needs = append(slices.Clone(needs), b.Firmware.Step)
	}
	if s.Given != nil {
		needs = append(slices.Clone(needs), s.Given.Step)
	}
	for _, d := range needs {
		if !slices.Contains(out, d) {
			out = append(out, d)
		}
	}
	return out
}

// Keys are none that are known before the part is made.
func (s *PartSBOM) Keys() []string { return nil }

// Run writes the documents.
func (s *PartSBOM) Run(ctx context.Context, w *build.Work) error {
	st, err := fragment.Read(w.In(s.Part))
	if err != nil {
		return err
	}
	out, err := fragment.Create(w.Out)
	if err != nil {
		return err
	}
	for _, name := range st.Parts() {
		if !wantsSBOM(st, name) {
			continue
		}
		d, err := s.document(ctx, w, st, name)
		if err != nil {
			return fault.Wrap(fault.BadInput, err, "making the bill of materials of %s", name)
		}
		text, err := part.Encode(d)
		if err != nil {
			return err
		}
		if err := out.AddBytes(part.Key(name), text); err != nil {
			return err
		}
	}
	return out.Close()
}

// wantsSBOM reports whether a part of a state is software without a bill of materials, to which one may
// be added.
func wantsSBOM(st *state.State, name string) bool {
	_, software := st.Get(name + "/run.json")
	_, has := st.Get(part.Key(name))
	_, signed := st.Get("_sigs/" + name + ".json")
	return software && !has && !signed
}

func (s *PartSBOM) document(ctx context.Context, w *build.Work, st *state.State, name string) (*sbom.Document, error) {
	d, err := container.Of(ctx, container.Options{
		Part: name, Of: s.Target, Version: s.Release, Time: s.Epoch.Time(), State: st, Objects: filepath.Join(w.In(s.Part), fragment.Objects),
	})
	if err != nil {
		return nil, err
	}
	d.Support = s.Support
	if s.Given != nil {
		return d, s.take(d, s.Given.in(w))
	}
	b := &bill{Document: d, in: w.In}
	for _, from := range s.origins.suppliers {
		packages, err := b.supplier(from)
		if err != nil {
			return nil, err
		}
		for _, f := range d.Files {
			if _, isKey := st.Value(f.Name); !isKey {
				continue // in a root file system, of which the key says this
			}
			if made, listed := s.Made[f.Name]; !listed && name == "bsp" || listed && !slices.Contains(made, from.Name()) {
				continue
			}
			d.Relate(f.ID, sbom.GeneratedFrom, packages...)
		}
	}
	if p, ok := s.Part.(*BSP); ok {
		if err := b.contents(p); err != nil {
			return nil, err
		}
	}
	if err := b.tools(s.origins.tools, d.Roots); err != nil {
		return nil, err
	}
	d.Seal()
	return d, nil
}

// take takes the packages of another document of the part, with what it says of files that are the
// same in this one.
func (s *PartSBOM) take(d *sbom.Document, file string) error {
	given, err := readPart(file)
	if err != nil {
		return fault.Wrap(fault.IO, err, "taking the bill of materials that is given")
	}
	known := map[string]bool{}
	for _, p := range given.Packages {
		if !slices.Contains(given.Roots, p.ID) {
			d.AddPackage(p)
		}
	}
	for _, p := range d.Packages {
		known[p.ID] = true
	}
	for _, f := range d.Files {
		known[f.ID] = true
	}
	for _, r := range given.Relations {
		if known[r.From] && known[r.To] {
			d.Relations = append(d.Relations, r)
		}
	}
	d.Licences = append(d.Licences, given.Licences...)
	d.Seal()
	return nil
}

// contents says which files of the BSP's file systems are of which package.
func (b *bill) contents(p *BSP) error {
	if p.KernelTree != nil {
		paths, err := kernel.Paths(b.in(p.KernelTree))
		if err != nil {
			return err
		}
		b.paths(originsOf(p.KernelTree).suppliers, paths)
	}
	if p.Firmware == nil {
		return nil
	}
	for _, from := range originsOf(p.Firmware.Step).suppliers {
		if from == p.KernelTree {
			continue
		}
		paths, err := kernel.FirmwareIn(b.in(p.Firmware.Step), b.in(from))
		if err != nil {
			return err
		}
		b.paths([]supplier{from}, paths)
	}
	return nil
}

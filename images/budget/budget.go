// Package budget checks what a target is made of against its budgets: image, partitions, initrd,
// device binary, BSP and its files, containers.
//
// [Measure] is a step that says where the bytes of one thing are, and [Check] one that compares them
// with limits. Limits are inputs of the check alone, so that another limit makes nothing again. To
// add a thing that can have a budget, add its step to things and its field to limits.
package budget

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/containers"
	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/images/inspect"
	"github.com/pantavisor/pantavisor/images/media"
	"github.com/pantavisor/pantavisor/images/size"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/parts"
	"github.com/pantavisor/pantavisor/targets"
)

// Names of things, as in texts and in files with sizes; those of others begin with one of the
// prefixes.
const (
	image      = "image"
	compressed = "compressed image"
	initrd     = "initrd"
	binary     = "device binary"
	bsp        = "bsp"

	partition = "partition "
	part      = "part "
	container = "container "
)

// Measure is the step that measures the output of another one.
type Measure struct {
	// Thing is the name of what is measured.
	Thing string
	// File is a file in the output of Of. Default: the output is a fragment of a state, of which
	// all objects are measured.
	File string
	// Of is the measured step.
	Of build.Step `json:"-"`
	// Whole is the measure of the medium of which Of makes another form; nil for anything else. What
	// is in that form is not known, and so it has the entries of the medium.
	Whole *Measure `json:"-"`
}

var (
	_ build.Step  = (*Measure)(nil)
	_ build.Large = (*Measure)(nil)
)

// sizesFile is the file in the output of a [Measure].
const sizesFile = "sizes.json"

// Name is "size/" and the name of the measured step.
func (m *Measure) Name() string { return "size/" + m.Of.Name() }

// Deps are the measured step and the measure of the medium.
func (m *Measure) Deps() []build.Step {
	if m.Whole == nil {
		return []build.Step{m.Of}
	}
	return []build.Step{m.Of, m.Whole}
}

// Memory is that for the names of all files in an image.
func (m *Measure) Memory() int64 { return 16 << 20 }

// Run measures.
func (m *Measure) Run(ctx context.Context, w *build.Work) error {
	things, err := m.measure(ctx, w)
	if err != nil {
		return fault.Wrap(fault.IO, err, "measuring %s", m.Thing)
	}
	text, err := json.Marshal(things)
	if err == nil {
		err = os.WriteFile(filepath.Join(w.Out, sizesFile), text, 0o644)
	}
	return fault.Wrap(fault.IO, err, "measuring %s", m.Thing)
}

func (m *Measure) measure(ctx context.Context, w *build.Work) ([]size.Thing, error) {
	path := filepath.Join(w.In(m.Of), filepath.FromSlash(m.File))
	if m.Whole != nil {
		return m.form(w, path)
	}
	var r inspect.Reader
	defer r.Close()
	n, err := r.Open(ctx, path)
	if err != nil {
		return nil, err
	}
	sized, err := r.Sizes(ctx, n)
	if err != nil {
		return nil, err
	}
	out := []size.Thing{size.Measured(m.Thing, sized)}
	for _, p := range sized.Parts {
		if name, ok := partitionName(p); ok {
			out = append(out, size.Measured(partition+name, p))
		}
	}
	return out, nil
}

// form measures another form of a medium.
func (m *Measure) form(w *build.Work, path string) ([]size.Thing, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	things, err := m.Whole.things(w)
	if err != nil {
		return nil, err
	}
	things[0].Name, things[0].Bytes = m.Thing, info.Size()
	return things[:1], nil
}

// partitionName returns the name in the table of what is a partition or a volume.
func partitionName(s *inspect.Sized) (string, bool) {
	if name, ok := strings.CutPrefix(s.Name, "volume "); ok && s.Sort == inspect.SortPartition {
		return name, true
	}
	words := strings.SplitN(s.Name, " ", 3) // partition 2 pvroot
	if s.Sort != inspect.SortPartition || len(words) < 3 {
		return "", false
	}
	return words[2], true
}

// things reads what was measured, which is at least one thing.
func (m *Measure) things(w *build.Work) ([]size.Thing, error) { return read(w.In(m)) }

func read(dir string) ([]size.Thing, error) {
	text, err := os.ReadFile(filepath.Join(dir, sizesFile))
	if err != nil {
		return nil, err
	}
	var out []size.Thing
	if err := json.Unmarshal(text, &out); err != nil || len(out) == 0 {
		return nil, fault.New(fault.Internal, "%s of %s has no sizes: %w", sizesFile, dir, err)
	}
	return out, nil
}

// Things returns what a build has measured, in the order of the measures.
func Things(res *build.Result, measures []*Measure) ([]size.Thing, error) {
	var out []size.Thing
	for _, m := range measures {
		things, err := read(res.Dir(m))
		if err != nil {
			return nil, fault.Wrap(fault.IO, err, "reading what was measured")
		}
		out = append(out, things...)
	}
	return out, nil
}

// Measures returns the measures of all that can have a budget in the graph of the inputs.
func Measures(in *images.Inputs, comp *images.Composition) ([]*Measure, error) {
	steps, err := build.Steps(comp.Wanted()...)
	if err != nil {
		return nil, err
	}
	var out []*Measure
	add := func(thing, file string, of build.Step) {
		for _, m := range out {
			if m.Of.Name() == of.Name() {
				return
			}
		}
		out = append(out, &Measure{Thing: thing, File: file, Of: of})
	}
	for _, s := range steps {
		if s.Name() == in.Runtime.Step.Name() {
			add(binary, in.Runtime.File, s)
		}
		switch s := s.(type) {
		case *images.BSP:
			for _, f := range bspFiles(s) {
				add(f.thing, f.File, f.Step)
			}
			add(bsp, "", s)
		case *containers.Part:
			add(container+s.Definition.Name, "", s)
		case *parts.File:
			add(part+s.Part, parts.Name, s)
		case *images.Disk:
			add(numbered(image, s.Layout.File), images.DiskFile, s)
		case *images.UBI:
			add(numbered(image, s.Layout.File), images.FlashFile, s)
		}
	}
	for _, s := range steps { // the media are known
		if s, ok := s.(*media.Compressed); ok {
			out = append(out, compressedMeasure(s, out))
		}
	}
	return out, nil
}

// numbered is the name of one of several images: the main one has no file.
func numbered(name, file string) string { return strings.TrimSpace(name + " " + file) }

// compressedMeasure is that of a compressed form of a medium.
func compressedMeasure(s *media.Compressed, all []*Measure) *Measure {
	m := &Measure{Thing: compressed, File: media.CompressedFile, Of: s}
	for _, whole := range all {
		if whole.Of.Name() == s.Image.Step.Name() {
			m.Whole, m.Thing = whole, strings.Replace(whole.Thing, image, compressed, 1)
		}
	}
	return m
}

// bspFile is a file of the BSP with its name in budgets.
type bspFile struct {
	images.Artefact
	thing string
}

func bspFiles(s *images.BSP) []bspFile {
	out := []bspFile{{s.Initrd, initrd}, {s.Kernel, part + "kernel"}}
	if s.Modules != nil {
		out = append(out, bspFile{*s.Modules, part + "modules"})
	}
	if s.Firmware != nil {
		out = append(out, bspFile{*s.Firmware, part + "firmware"})
	}
	for _, a := range s.Addons {
		out = append(out, bspFile{a.From, part + images.AddonLabel(a.Name)})
	}
	return out
}

// limit is the budget of a thing.
type limit struct {
	name  string // of the thing
	field string // of target.yaml
	most  targets.Size
}

// limits returns the limits in the order of the fields.
func limits(b *targets.Budgets) (out []limit) {
	add := func(name, field string, most targets.Size) {
		if most > 0 {
			out = append(out, limit{name, "budgets." + field, most})
		}
	}
	add(image, "image", b.Image)
	add(compressed, "compressed", b.Compressed)
	add(initrd, "initrd", b.Initrd)
	add(binary, "binary", b.Binary)
	add(bsp, "bsp", b.BSP)
	for _, list := range []struct {
		prefix, field string
		limits        map[string]targets.Size
	}{{partition, "partitions", b.Partitions}, {part, "parts", b.Parts}, {container, "containers", b.Containers}} {
		for name, most := range list.limits {
			add(list.prefix+name, list.field+"."+name, most)
		}
	}
	slices.SortStableFunc(out, func(a, b limit) int { return strings.Compare(a.name, b.name) })
	return out
}

// Options are what checks compare with besides the budgets.
type Options struct {
	// Saved is the file with the sizes of the last release; its path is empty when there is none.
	Saved build.Source
	// Last returns the sizes of the last build, nil when they are not known. They enter nothing but
	// the text of an error.
	Last func() *size.Saved
}

// Checks returns the checks of the budgets, each of one step, and the measures that they need.
func Checks(b *targets.Budgets, measures []*Measure, o Options) (checks []build.Check, used []*Measure) {
	if b == nil {
		return nil, nil
	}
	all := limits(b)
	for _, m := range measures {
		c := &Check{Measure: m, last: o.Last}
		for _, l := range all {
			if m.measures(l.name) {
				c.Limits = append(c.Limits, Limit{Thing: l.name, Field: l.field, Most: int64(l.most)})
			}
		}
		if o.Saved.Path != "" {
			c.Saved = &o.Saved
			if b.Growth != nil {
				percent := int(*b.Growth)
				c.Growth = &percent
			}
		}
		if len(c.Limits) > 0 || c.Growth != nil {
			checks, used = append(checks, c), append(used, m)
		}
	}
	return checks, used
}

// measures reports whether a thing may be among those that are measured. A limit of the image is for
// each one.
func (m *Measure) measures(thing string) bool {
	if strings.HasPrefix(thing, partition) {
		return strings.HasPrefix(m.Thing, image)
	}
	return m.Thing == thing || strings.HasPrefix(m.Thing, thing+" ") && (thing == image || thing == compressed)
}

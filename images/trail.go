package images

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/personal"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/compat"
	"github.com/pantavisor/pantavisor/revision/fragment"
	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/revision/trail"
)

// StorageDir is the directory in the output of a [Trail] that becomes the storage.
const StorageDir = "storage"

// Trail is the step that composes revision 0 and the storage tree that holds it:
// objects, the checkout with hard links to them, boot links, and the empty
// directories that a runtime expects (manual: Storage).
type Trail struct {
	// AppEngine is set for a revision without a BSP: the machine has already booted.
	AppEngine bool `json:",omitempty"`
	// FactoryToken is written into pantahub.config, if it is not empty.
	FactoryToken Secret `json:",omitempty"`
	// Distinct is set when no two of Parts may have the same part of a state.
	Distinct bool `json:",omitempty"`
	// Parts are merged in order; a later one replaces keys of an earlier one.
	Parts []build.Step `json:"-"`
	// Boot is the step whose output, the boot loader's files, is added to the storage.
	// May be nil.
	Boot build.Step `json:"-"`
	// Signer signs the parts of the state; nil for nobody.
	Signer Signer `json:"-"`
	// Hub is pantahub.config; Stepskel is the vendor's directory, nil when there is none.
	Hub      build.Source  `json:"-"`
	Stepskel *build.Source `json:"-"`
}

var (
	_ build.Step      = (*Trail)(nil)
	_ build.Versioned = (*Trail)(nil)
	_ build.Sourced   = (*Trail)(nil)
	_ build.Replacing = (*Trail)(nil)
)

// Name of the step.
func (s *Trail) Name() string { return "trail/storage" }

// Version of the step's logic.
func (s *Trail) Version() int { return 3 }

// Deps are the parts, then the boot loader's files and who signs.
func (s *Trail) Deps() []build.Step {
	out := append([]build.Step(nil), s.Parts...)
	if s.Boot != nil {
		out = append(out, s.Boot)
	}
	if s.Signer != nil {
		out = append(out, s.Signer)
	}
	return out
}

// Signer is a step with a key.
type Signer interface {
	build.Step
	// Sign adds signatures of the parts of a state to it. w is that of the step that asks.
	Sign(ctx context.Context, w *build.Work, st *state.State) error
}

// Sources are pantahub.config and stepskel.
func (s *Trail) Sources() ([]build.Source, error) {
	out := []build.Source{s.Hub}
	if s.Stepskel != nil {
		out = append(out, *s.Stepskel)
	}
	return out, missing(out)
}

// Run merges the parts, checks the state as the runtime will, and lays it out.
func (s *Trail) Run(ctx context.Context, w *build.Work) error {
	dir := filepath.Join(w.Out, StorageDir)
	if err := makeDirectories(dir); err != nil {
		return err
	}
	p, err := s.merge(ctx, w, dir)
	if err != nil {
		return err
	}
	if s.Signer != nil {
		if err := s.Signer.Sign(ctx, w, p.State); err != nil {
			return fault.Wrap(fault.BadInput, err, "signing revision %s", trail.First)
		}
	}
	if err := s.check(p.State); err != nil {
		return fault.Wrap(fault.BadInput, err, "checking revision %s%s", trail.First, s.origin())
	}
	if err := checkout(ctx, p.State, dir); err != nil {
		return fault.Wrap(fault.IO, err, "checking revision %s out", trail.First)
	}
	return s.extras(ctx, w, dir)
}

// check checks the state as the runtime does before it takes an update to one.
func (s *Trail) check(st *state.State) error {
	sys, err := manifest.Parse(st, manifest.Options{AppEngine: s.AppEngine})
	if err != nil {
		return err
	}
	if problems := compat.Check(sys.Compat()); problems != nil {
		return problems
	}
	return nil
}

// origin describes where the state comes from if not from this tree alone.
func (s *Trail) origin() string {
	for _, p := range s.Parts {
		if r, ok := p.(*Reference); ok {
			return " with the parts of " + r.Path + " (PVR_MERGE_SRC)"
		}
	}
	return ""
}

func makeDirectories(dir string) error {
	for _, d := range []string{
		"boot", "cache/devmeta", "cache/usrmeta", "config", "disks", "logs", "trails",
	} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return fault.Wrap(fault.IO, err, "making the storage tree")
		}
	}
	return nil
}

// merge collects all parts and stepskel into the storage's objects.
func (s *Trail) merge(ctx context.Context, w *build.Work, dir string) (*fragment.Writer, error) {
	p, err := fragment.Create(dir)
	if err != nil {
		return nil, err
	}
	from := map[string]string{}
	for _, step := range s.Parts {
		if err := s.distinct(w, step, from); err != nil {
			return nil, err
		}
		if err := p.Join(ctx, w.In(step)); err != nil {
			return nil, fault.Wrap(fault.IO, err, "adding %s", step.Name())
		}
	}
	if s.Stepskel != nil {
		if err := addTree(ctx, p, *s.Stepskel); err != nil {
			return nil, err
		}
	}
	return p, p.Sweep()
}

// distinct checks that a step has no part that another has; from are the steps of the parts so
// far. A part of two steps would be a mixture of both. device.json is that of the build unless a
// step has one.
func (s *Trail) distinct(w *build.Work, step build.Step, from map[string]string) error {
	if !s.Distinct {
		return nil
	}
	st, err := fragment.Read(w.In(step))
	if err != nil {
		return err
	}
	if _, own := step.(*PartSBOM); own { // it says more of a part
		return nil
	}
	_, own := step.(*Device)
	for _, part := range st.Parts() {
		if other, twice := from[part]; twice {
			return fault.New(fault.BadInput, "%s and %s both have the part %s", other, step.Name(), part)
		}
		if !own {
			from[part] = step.Name()
		}
	}
	return nil
}

// addTree adds directories of this machine: files named *.json as values, others as
// objects.
func addTree(ctx context.Context, p *fragment.Writer, src build.Source) error {
	files := map[string]string{}
	err := eachFile(ctx, src, func(dir, name string) {
		files[name] = filepath.Join(dir, filepath.FromSlash(name))
	})
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := p.AddFile(ctx, name, files[name]); err != nil {
			return err
		}
	}
	return nil
}

// eachFile calls fn for the files in the directories of a source, the lowest first. The
// reader's note at the top is left out.
func eachFile(ctx context.Context, src build.Source, fn func(dir, name string)) error {
	for _, dir := range src.Dirs() {
		entries, err := collect(ctx, dir, "")
		if err != nil {
			return fault.Wrap(fault.IO, err, "collecting %s", dir)
		}
		for _, e := range entries {
			if e.Mode.IsDir() || e.Name == "README.md" || filepath.Base(e.Name) == ".gitkeep" {
				continue
			}
			if e.Link != "" {
				return fault.New(fault.BadInput, "collecting %s: %s is a link; a revision holds files only", dir, e.Name)
			}
			fn(dir, e.Name)
		}
	}
	return nil
}

// keyed is a part of a revision whose keys are known before it is made.
type keyed interface{ Keys() []string }

// Replaces lists the keys of parts that later parts or stepskel replace.
func (s *Trail) Replaces(ctx context.Context, in func(build.Step) string) ([]build.Replacement, error) {
	var over build.Overlay
	for _, part := range s.Parts {
		keys, err := keysOf(part, in(part))
		if err != nil {
			return nil, err
		}
		for _, key := range keys {
			over.Add(key, partName(part))
		}
	}
	if s.Stepskel == nil {
		return over.Replaced(), nil
	}
	err := eachFile(ctx, *s.Stepskel, func(dir, name string) { over.Add(name, label(*s.Stepskel, dir)) })
	return over.Replaced(), err
}

// keysOf returns the keys of a part from its output in dir or, while it has none, those
// that are known without it.
func keysOf(part build.Step, dir string) ([]string, error) {
	if dir == "" {
		if k, ok := part.(keyed); ok {
			return k.Keys(), nil
		}
		return nil, nil
	}
	st, err := fragment.Read(dir)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(st.Keys(), func(key string) bool { return key == state.SpecKey }), nil
}

// partName names a part for people.
func partName(part build.Step) string {
	if r, ok := part.(*Reference); ok {
		return "the reference device " + r.Path + " (PVR_MERGE_SRC)"
	}
	return part.Name()
}

// checkout lays the state out beside its objects.
func checkout(ctx context.Context, st *state.State, dir string) error {
	store, err := objects.Open(filepath.Join(dir, fragment.Objects))
	if err != nil {
		return err
	}
	return trail.Checkout(ctx, filepath.Join(dir, "trails", trail.First), st, store, trail.Options{})
}

// extras adds the Hub's configuration, room for the settings of a single device and the boot
// loader's files, and removes leftovers of the merge.
func (s *Trail) extras(ctx context.Context, w *build.Work, dir string) error {
	text, err := bounded.ReadRegular(s.Hub.Path, MaxSettings)
	if err != nil {
		return unread(s.Hub.Name, err)
	}
	if s.FactoryToken != "" {
		text = withSetting(text, "PH_FACTORY_AUTOTOK", string(s.FactoryToken))
	}
	if err := os.WriteFile(filepath.Join(dir, "config/pantahub.config"), text, 0o600); err != nil {
		return fault.Wrap(fault.IO, err, "writing the Hub's configuration")
	}
	if !s.AppEngine { // whose storage is no medium to personalise
		if err := os.WriteFile(filepath.Join(dir, personal.Name), personal.Blank(), 0o600); err != nil {
			return fault.Wrap(fault.IO, err, "writing the file of personal settings")
		}
	}
	if s.Boot == nil {
		return nil
	}
	return fault.Wrap(fault.IO, build.CopyTree(ctx, dir, w.In(s.Boot)), "adding the boot loader's files")
}

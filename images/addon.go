package images

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/cpio"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// FilesAddon is the step that makes an addon of a product's files: those of a directory, or
// one program.
type FilesAddon struct {
	// Label is the addon's name.
	Label string
	// X86 turns the branch filter on.
	X86 bool
	// Epoch is the time of all files.
	Epoch build.Stamp
	// Path is where Program goes.
	Path string
	// Directory has what is added to the root of the initrd; nil with Program, which is a
	// file in another step's output.
	Directory *build.Source `json:"-"`
	Program   *Artefact     `json:"-"`
}

var (
	_ build.Step      = (*FilesAddon)(nil)
	_ build.Large     = (*FilesAddon)(nil)
	_ build.Versioned = (*FilesAddon)(nil)
	_ named           = (*FilesAddon)(nil)
	_ build.Sourced   = (*FilesAddon)(nil)
)

// AddonFile is the name of an addon in the BSP and in the output of its step.
func AddonFile(label string) string { return "addon-" + label + ".cpio.xz4" }

// AddonLabel returns the label of the addon with a file's name.
func AddonLabel(file string) string {
	return strings.TrimSuffix(strings.TrimPrefix(file, "addon-"), ".cpio.xz4")
}

// Name of the step.
func (s *FilesAddon) Name() string { return "initrd/addon-" + s.Label }

// Version of the step's logic.
func (s *FilesAddon) Version() int { return 2 }

// Memory is that for compression.
func (*FilesAddon) Memory() int64 { return compressing }

// Deps are the program, if there is one.
func (s *FilesAddon) Deps() []build.Step {
	if s.Program == nil {
		return nil
	}
	return []build.Step{s.Program.Step}
}

// Sources is the directory.
func (s *FilesAddon) Sources() ([]build.Source, error) {
	if s.Directory == nil {
		return nil, nil
	}
	out := []build.Source{*s.Directory}
	return out, missing(out)
}

// Run packs the files.
func (s *FilesAddon) Run(ctx context.Context, w *build.Work) error {
	a, err := s.assemble(ctx, func(step build.Step) string { return w.In(step) })
	if err != nil {
		return err
	}
	tree.Set(a.files).Complete()
	delete(a.files, ".")
	if err := a.files.fits(s.Label); err != nil {
		return err
	}
	entries, err := a.check()
	if err != nil {
		return fault.Wrap(fault.BadInput, err, "packing addon %s", s.Label)
	}
	raw, packed := filepath.Join(w.Tmp, "addon.cpio"), filepath.Join(w.Tmp, "addon.xz")
	if err := writeArchive(raw, s.Epoch, entries, cpio.Options{}, true); err != nil {
		return err
	}
	if err := compress(ctx, raw, packed, codeFor(s.X86)); err != nil {
		return err
	}
	return joinBlocks(filepath.Join(w.Out, AddonFile(s.Label)), []string{packed})
}

// assemble returns the files of the directory or the program.
func (s *FilesAddon) assemble(ctx context.Context, in func(build.Step) string) (*assembly, error) {
	a := &assembly{files: fileSet{}}
	if s.Directory != nil {
		if err := a.addAll(ctx, *s.Directory, inRoot); err != nil {
			return nil, err
		}
	}
	if s.Program != nil {
		e, err := fileEntry(filepath.Join(in(s.Program.Step), filepath.FromSlash(s.Program.File)), s.Path)
		if err != nil {
			return nil, err
		}
		a.put(e, s.Name())
	}
	return a, nil
}

// names lists the files in the addon.
func (s *FilesAddon) names(ctx context.Context, in func(build.Step) string) ([]string, error) {
	if s.Program != nil {
		return []string{s.Path}, nil
	}
	a, err := s.assemble(ctx, in)
	if err != nil {
		return nil, err
	}
	return a.files.names(), nil
}

// fits checks that the files do not replace directories and links of the base initrd: the
// kernel would remove those first, with all that is reached through them.
func (t fileSet) fits(label string) error {
	base := skeleton()
	for _, e := range tree.Set(t).Sorted() {
		old, ok := base[e.Name]
		if ok && (e.Mode.IsDir() != old.Mode.IsDir() || old.Link != "") {
			return fault.New(fault.BadInput, "packing addon %s: %s is %s in the initrd, which an addon must not replace; put files where it leads", label, e.Name, describe(old))
		}
	}
	return nil
}

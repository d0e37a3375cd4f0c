package images

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/archive"
	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/fragment"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
)

// Reference is the step that takes the parts of a reference device: a .pvr
// directory or an export (manual: PVR_MERGE_SRC). Every object is compared with its
// digest.
type Reference struct {
	// BSP takes the reference's BSP too; otherwise it is left out.
	BSP bool
	// Path is the .pvr directory or the export.
	Path string `json:"-"`
	// Instead are the containers of the target that it stands in for.
	Instead []string `json:"-"`
}

var (
	_ build.Step      = (*Reference)(nil)
	_ build.Versioned = (*Reference)(nil)
	_ build.Sourced   = (*Reference)(nil)
	_ build.Replacing = (*Reference)(nil)
)

// Name of the step.
func (s *Reference) Name() string { return "trail/reference" }

// Version of the step's logic.
func (s *Reference) Version() int { return 1 }

// Deps is empty.
func (s *Reference) Deps() []build.Step { return nil }

// Replaces lists the containers of the target that are left out.
func (s *Reference) Replaces(context.Context, func(build.Step) string) ([]build.Replacement, error) {
	if len(s.Instead) == 0 {
		return nil, nil
	}
	return []build.Replacement{{Files: s.Instead, Of: "the containers of the target", By: partName(s)}}, nil
}

// Sources are the export, or the state and the objects of the directory.
func (s *Reference) Sources() ([]build.Source, error) {
	info, err := os.Stat(s.Path)
	switch {
	case err != nil:
		return nil, fault.New(fault.Missing, "looking for the reference device (PVR_MERGE_SRC): %w", err)
	case info.Mode().IsRegular():
		return []build.Source{{Name: "reference", Path: s.Path}}, nil
	case !info.IsDir():
		return nil, s.damaged(fault.New(fault.BadInput, "it is neither a .pvr directory nor the file of an export"))
	case exists(filepath.Join(s.Path, ".pvr", fragment.File)):
		return nil, s.damaged(fault.New(fault.BadInput, "it is a checkout; name its directory .pvr"))
	}
	store, err := s.store()
	if err != nil {
		return nil, err
	}
	out := []build.Source{
		{Name: "reference/json", Path: filepath.Join(s.Path, fragment.File)},
		{Name: "reference/objects", Path: store},
	}
	if store != filepath.Join(s.Path, fragment.Objects) && !exists(store) {
		return nil, s.damaged(fault.New(fault.Missing, "its objects are not in %s, where ObjectsDir of its file config says", store))
	}
	return out, s.damaged(missing(out))
}

// maxReferenceConfig bounds the file config of a .pvr directory, in bytes.
const maxReferenceConfig = 1 << 20

// store returns the directory with the objects of a .pvr directory: its own, or the one
// in its config, absolute or relative to the parent directory of .pvr.
func (s *Reference) store() (string, error) {
	var config struct{ ObjectsDir string }
	text, err := bounded.ReadRegular(filepath.Join(s.Path, "config"), maxReferenceConfig)
	if err == nil {
		err = json.Unmarshal(text, &config)
	}
	switch {
	case errors.Is(err, os.ErrNotExist) || err == nil && config.ObjectsDir == "":
		return filepath.Join(s.Path, fragment.Objects), nil
	case err != nil:
		return "", s.damaged(err)
	case filepath.IsAbs(config.ObjectsDir):
		return config.ObjectsDir, nil
	}
	return filepath.Join(filepath.Dir(filepath.Clean(s.Path)), config.ObjectsDir), nil
}

func (s *Reference) damaged(err error) error {
	return fault.Wrap(fault.BadInput, err, "reading the reference device %s (PVR_MERGE_SRC)", s.Path)
}

// Run copies the parts that are wanted.
func (s *Reference) Run(ctx context.Context, w *build.Work) error {
	st, store, err := s.open(ctx, w)
	if err != nil {
		return s.damaged(err)
	}
	if st.Spec() == "" {
		return s.damaged(fault.New(fault.BadInput, "its %s is not a state: %q is missing; export or clone the device again", fragment.File, state.SpecKey))
	}
	if _, has := st.Get("bsp/run.json"); s.BSP && !has {
		return s.damaged(fault.New(fault.BadInput, "it has no BSP (PVR_USE_SRC_BSP): bsp/run.json is not there"))
	}
	if !s.BSP {
		st = WithoutBSP(st)
	}
	return s.damaged(s.take(ctx, w, st, store))
}

// WithoutBSP returns a state without the keys that belong to its BSP.
func WithoutBSP(st *state.State) *state.State {
	return st.Without("bsp", "_sigs/bsp.json", "_config/bsp")
}

// open returns the state and the directory with its objects.
func (s *Reference) open(ctx context.Context, w *build.Work) (*state.State, string, error) {
	f, err := os.Open(s.Path)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, "", err
	}
	if info.IsDir() {
		return s.directory()
	}
	unpacked, err := objects.Create(filepath.Join(w.Tmp, "reference"))
	if err != nil {
		return nil, "", err
	}
	st, err := archive.Import(ctx, f, unpacked, archive.ImportOptions{})
	if errors.Is(err, objects.ErrMismatch) {
		err = fault.New(fault.Digest, "%w", err)
	}
	return st, unpacked.Dir(), err
}

func (s *Reference) directory() (*state.State, string, error) {
	store, err := s.store()
	if err != nil {
		return nil, "", err
	}
	text, err := bounded.ReadRegular(filepath.Join(s.Path, fragment.File), canon.MaxSize)
	if err != nil {
		return nil, "", err
	}
	st, err := state.Parse(text)
	return st, store, err
}

// take copies the state's objects. It does not link them: the user may write to the
// files.
func (s *Reference) take(ctx context.Context, w *build.Work, st *state.State, store string) error {
	p, err := fragment.Create(w.Out)
	if err != nil {
		return err
	}
	p.State = st
	var errs []error
	for _, o := range st.Objects() {
		if err := s.object(ctx, p, o, store); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return p.Close()
}

func (s *Reference) object(ctx context.Context, p *fragment.Writer, o state.Object, store string) error {
	dst := p.Object(o.Sum)
	if exists(dst) {
		return nil
	}
	src := filepath.Join(store, o.Sum)
	if info, err := os.Stat(src); err != nil || !info.Mode().IsRegular() {
		return fault.New(fault.Missing, "%s: its object %s is not there; export or clone the whole device again", o.Path, o.Sum)
	}
	if err := build.CopyFile(ctx, dst, src); err != nil {
		return fault.Wrap(fault.IO, err, "copying %s", o.Path)
	}
	sum, err := fragment.Digest(ctx, dst)
	if err != nil {
		return err
	}
	if sum != o.Sum {
		return fault.New(fault.Digest, "%s is damaged: its object has the digest %s, the state says %s", o.Path, sum, o.Sum)
	}
	return nil
}

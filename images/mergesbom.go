package images

import (
	"context"
	"os"
	"path"
	"path/filepath"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/sbom/merge"
)

// MergeSBOM is the step that takes the bills of materials in a directory (manual: PV_MERGE_SBOM), for
// the image's own to refer to.
type MergeSBOM struct {
	// Path is the directory.
	Path string `json:"-"`
}

var (
	_ build.Step      = (*MergeSBOM)(nil)
	_ build.Versioned = (*MergeSBOM)(nil)
	_ build.Sourced   = (*MergeSBOM)(nil)
)

// Name of the step.
func (s *MergeSBOM) Name() string { return "image/received-sboms" }

// Version of the step's logic.
func (s *MergeSBOM) Version() int { return 1 }

// Deps is empty.
func (s *MergeSBOM) Deps() []build.Step { return nil }

// Sources are the files that can have documents.
func (s *MergeSBOM) Sources() ([]build.Source, error) {
	files, err := merge.Candidates(context.Background(), s.Path)
	if err != nil {
		return nil, s.damaged(err)
	}
	var out []build.Source
	for _, f := range files {
		out = append(out, build.Source{Name: path.Join("received", f.Name), Path: f.Path})
	}
	return out, nil
}

// Run copies the files that have documents, byte for byte.
func (s *MergeSBOM) Run(ctx context.Context, w *build.Work) error {
	set, err := merge.Open(ctx, s.Path)
	if err != nil {
		return s.damaged(err)
	}
	for _, f := range set.Files {
		to := filepath.Join(w.Out, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return fault.Wrap(fault.IO, err, "copying bills of materials")
		}
		if err := build.CopyFile(ctx, to, f.Path); err != nil {
			return err
		}
	}
	return nil
}

func (s *MergeSBOM) damaged(err error) error {
	return fault.Wrap(fault.BadInput, err, "taking the bills of materials in %s (PV_MERGE_SBOM)", s.Path)
}

package images

import (
	"context"
	"path/filepath"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/fragment"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/revision/trail"
)

// RevisionExport is the step that packs the whole of revision 0 as an export, for updates of
// devices.
type RevisionExport struct {
	// Epoch is the time of all members.
	Epoch build.Stamp
	// Storage is the step whose output has the storage tree in the directory [StorageDir].
	Storage build.Step `json:"-"`
}

var _ build.Step = (*RevisionExport)(nil)

// Name of the step.
func (s *RevisionExport) Name() string { return "trail/export" }

// Deps is the storage.
func (s *RevisionExport) Deps() []build.Step { return []build.Step{s.Storage} }

// Run writes the archive.
func (s *RevisionExport) Run(ctx context.Context, w *build.Work) error {
	dir := filepath.Join(w.In(s.Storage), StorageDir)
	text, err := bounded.ReadRegular(filepath.Join(dir, "trails", trail.First, ".pvr/json"), canon.MaxSize)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "reading the state of revision 0")
	}
	st, err := state.Parse(text)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "reading the state of revision 0")
	}
	store, err := objects.Open(filepath.Join(dir, fragment.Objects))
	if err != nil {
		return fault.Wrap(fault.IO, err, "exporting revision 0")
	}
	return writeExport(ctx, filepath.Join(w.Out, exportFile), st, store, s.Epoch)
}

package images

import (
	"context"
	"os"
	"path/filepath"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/archive"
	"github.com/pantavisor/pantavisor/revision/fragment"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
)

// exportFile is the file in the output of an [Export].
const exportFile = "export.pvr.tgz"

// Export is the step that packs a part as an export (manual: pvr export).
type Export struct {
	// Epoch is the time of all members.
	Epoch build.Stamp
	Part  build.Step `json:"-"`
}

var (
	_ build.Step      = (*Export)(nil)
	_ build.Versioned = (*Export)(nil)
)

// Name of the step.
func (s *Export) Name() string { return "bsp/export" }

// Version of the step's logic.
func (s *Export) Version() int { return 1 }

// Deps is the part.
func (s *Export) Deps() []build.Step { return []build.Step{s.Part} }

// Run writes the archive.
func (s *Export) Run(ctx context.Context, w *build.Work) error {
	dir := w.In(s.Part)
	st, store, err := openPart(dir)
	if err != nil {
		return err
	}
	if err := reportState(w, "", st, store); err != nil {
		return err
	}
	return writeExport(ctx, filepath.Join(w.Out, exportFile), st, store, s.Epoch)
}

// ExportPart packs the part of a state in a directory as an export.
func ExportPart(ctx context.Context, to, dir string, epoch build.Stamp) error {
	st, store, err := openPart(dir)
	if err != nil {
		return err
	}
	return writeExport(ctx, to, st, store, epoch)
}

func openPart(dir string) (*state.State, *objects.Store, error) {
	st, err := fragment.Read(dir)
	if err != nil {
		return nil, nil, err
	}
	store, err := objects.Open(filepath.Join(dir, fragment.Objects))
	return st, store, fault.Wrap(fault.IO, err, "exporting a part")
}

func writeExport(ctx context.Context, to string, st *state.State, store *objects.Store, epoch build.Stamp) error {
	f, err := os.Create(to)
	if err != nil {
		return fault.Wrap(fault.IO, err, "writing an export")
	}
	defer f.Close()
	if err := archive.Export(ctx, f, st, store, archive.ExportOptions{Gzip: true, Time: epoch.Time()}); err != nil {
		return fault.Wrap(fault.IO, err, "writing an export")
	}
	return fault.Wrap(fault.IO, f.Close(), "writing an export")
}

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
	st, err := fragment.Read(dir)
	if err != nil {
		return err
	}
	store, err := objects.Open(filepath.Join(dir, fragment.Objects))
	if err != nil {
		return fault.Wrap(fault.IO, err, "exporting the BSP")
	}
	if err := reportState(w, "", st, store); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(w.Out, exportFile))
	if err != nil {
		return fault.Wrap(fault.IO, err, "exporting the BSP")
	}
	defer f.Close()
	err = archive.Export(ctx, f, st, store, archive.ExportOptions{Gzip: true, Time: s.Epoch.Time()})
	if err != nil {
		return fault.Wrap(fault.IO, err, "exporting the BSP")
	}
	return fault.Wrap(fault.IO, f.Close(), "exporting the BSP")
}

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
	// SBOM has the part's bill of materials; nil for none.
	SBOM *PartSBOM `json:"-"`
}

var (
	_ build.Step      = (*Export)(nil)
	_ build.Versioned = (*Export)(nil)
)

// Name of the step.
func (s *Export) Name() string { return "bsp/export" }

// Version of the step's logic.
func (s *Export) Version() int { return 2 }

// Deps are the part and its bill of materials.
func (s *Export) Deps() []build.Step {
	if s.SBOM == nil {
		return []build.Step{s.Part}
	}
	return []build.Step{s.Part, s.SBOM}
}

// Run writes the archive.
func (s *Export) Run(ctx context.Context, w *build.Work) error {
	var dirs []string
	for _, d := range s.Deps() {
		dirs = append(dirs, w.In(d))
	}
	st, store, err := joinParts(ctx, filepath.Join(w.Tmp, "part"), dirs...)
	if err != nil {
		return err
	}
	if err := reportState(w, "", st, store); err != nil {
		return err
	}
	return writeExport(ctx, filepath.Join(w.Out, exportFile), st, store, s.Epoch)
}

// ExportPart packs the part of a state in directories, which have different keys, as an export. tmp is a
// directory that does not exist yet, on the file system of the others if possible.
func ExportPart(ctx context.Context, to, tmp string, epoch build.Stamp, dirs ...string) error {
	st, store, err := joinParts(ctx, tmp, dirs...)
	if err != nil {
		return err
	}
	return writeExport(ctx, to, st, store, epoch)
}

// joinParts joins fragments of a state in a new directory.
func joinParts(ctx context.Context, tmp string, dirs ...string) (*state.State, *objects.Store, error) {
	if err := os.Mkdir(tmp, 0o755); err != nil {
		return nil, nil, fault.Wrap(fault.IO, err, "exporting a part")
	}
	p, err := fragment.Create(tmp)
	if err != nil {
		return nil, nil, err
	}
	for _, dir := range dirs {
		if err := p.Join(ctx, dir); err != nil {
			return nil, nil, err
		}
	}
	store, err := objects.Open(filepath.Join(tmp, fragment.Objects))
	return p.State, store, fault.Wrap(fault.IO, err, "exporting a part")
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

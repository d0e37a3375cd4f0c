package workspace

import (
	"context"
	"errors"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/build/dist"
	"github.com/pantavisor/pantavisor/targets"
)

// distName is the directory below out/ for the host tools.
const distName = "dist"

// Dist makes the host tool pvr for the named platforms, GOOS/GOARCH or GOOS, an archive for each,
// and the source if it is named; all without names. Beside them are their checksums.
func (w *Workspace) Dist(ctx context.Context, names []string) error {
	report, err := w.dist(ctx, names)
	if err != nil || !w.JSON {
		return err
	}
	return w.Print(report)
}

func (w *Workspace) dist(ctx context.Context, names []string) (*build.Report, error) {
	platforms, source, err := dist.Choose(names)
	if err != nil {
		return nil, err
	}
	j, err := w.builder(&targets.Target{Name: distName})
	if err != nil {
		return nil, err
	}
	report, err := j.Deliver(ctx, w.distDir(), dist.Artefacts(dist.Options{
		Module: j.Code, Release: w.Options.Release, Epoch: w.Options.Epoch, Platforms: platforms, Source: source,
	}))
	if err = w.roomFor(err, j.Cache.Dir()); err == nil {
		w.tidy(ctx, j)
	}
	return report, errors.Join(err, j.close())
}

// distDir is the directory of the archives: out/dist, or what the user says.
func (w *Workspace) distDir() string {
	if w.OutDir == "" {
		return w.Out(distName)
	}
	return w.outDir()
}

package workspace

import (
	"context"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/build/gobinary"
	"github.com/pantavisor/pantavisor/debian"
)

// fetch downloads everything that builds of a target take from the network: its packages,
// and the modules that its Go programs import. Builds then need no network.
func (w *Workspace) fetch(ctx context.Context, target string) error {
	j, err := w.open(ctx, target)
	if err != nil {
		return err
	}
	defer j.close() //nolint:errcheck // the build's own error says more
	var packages []build.Step
	seen := map[string]bool{}
	var visit func(steps []build.Step) error
	visit = func(steps []build.Step) error {
		for _, s := range steps {
			if seen[s.Name()] {
				continue
			}
			seen[s.Name()] = true
			switch step := s.(type) {
			case *debian.Fetch:
				packages = append(packages, step)
			case *gobinary.Step:
				if err := step.Download(ctx); err != nil {
					return err
				}
			}
			if err := visit(s.Deps()); err != nil {
				return err
			}
		}
		return nil
	}
	if err := visit(j.comp.Wanted()); err != nil {
		return err
	}
	_, err = j.Build(ctx, packages...)
	return w.roomFor(err, j.Cache.Dir())
}

package workspace

import (
	"context"

	"github.com/pantavisor/pantavisor/emulator"
	"github.com/pantavisor/pantavisor/internal/host"
	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/targets"
)

// PrepareTests installs what the tests need of this machine: the emulators of all
// targets and the programs that judge our formats. The tests of a product need neither.
func (w *Workspace) PrepareTests(ctx context.Context) error {
	l, err := w.sources()
	if err != nil {
		return err
	}
	if l.Top() != l.Shipped() {
		return nil
	}
	var needs []host.Need
	for _, pkg := range oracle.Packages() {
		for _, p := range oracle.Programs(pkg) {
			needs = append(needs, host.Need{Name: p, Package: pkg})
		}
	}
	if err := host.Ensure(ctx, "the tests", needs, w.Options.Interactive, w.Stderr); err != nil {
		return err
	}
	all, err := targets.LoadAll(definitions(l))
	if err != nil {
		return err
	}
	for _, t := range all {
		for _, e := range t.Emulators {
			if err := emulator.Ensure(ctx, e, w.Options.Interactive, w.Stderr); err != nil {
				return err
			}
		}
	}
	return nil
}

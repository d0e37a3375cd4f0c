package workspace

import (
	"context"

	"github.com/pantavisor/pantavisor/emulator"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/host"
	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/targets"
)

// isThisModule reports whether the workspace is a checkout of this module, not a product.
func (w *Workspace) isThisModule() (bool, error) {
	l, err := w.Sources()
	return err == nil && l.Top() == l.Shipped(), err
}

// NeedsCheckout returns an error in a product, for a command that is about this module.
func (w *Workspace) NeedsCheckout(command string) error {
	own, err := w.isThisModule()
	if err == nil && !own {
		err = fault.New(fault.Unsupported, "%s is for a checkout of %s", command, modulePath)
	}
	return err
}

// PrepareTests installs what the tests need of this machine: the emulators of all
// targets and the programs that judge our formats. The tests of a product need neither.
func (w *Workspace) PrepareTests(ctx context.Context) error {
	if own, err := w.isThisModule(); err != nil || !own {
		return err
	}
	l, err := w.Sources()
	if err != nil {
		return err
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

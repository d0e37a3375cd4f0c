package workspace

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/pantavisor/pantavisor/build/gobinary"
	"github.com/pantavisor/pantavisor/integration/buildroot"
)

// Buildroot checks the external tree in a tree of Buildroot; "" for none.
func (w *Workspace) Buildroot(ctx context.Context, tree string) error {
	results := []buildroot.Result{}
	err := w.buildroot(ctx, tree, func(r buildroot.Result) {
		results = append(results, r)
		if !w.JSON {
			fmt.Fprintln(w.Stdout, r)
		}
	})
	if w.JSON {
		err = errors.Join(err, w.Print(results))
	}
	return err
}

func (w *Workspace) buildroot(ctx context.Context, tree string, tell func(buildroot.Result)) error {
	o := buildroot.Options{Tree: tree, Version: gobinary.ReleaseName(w.Options.Release), Work: w.Out("buildroot"), Tell: tell}
	if tree == "" {
		return buildroot.Check(ctx, o)
	}
	l, err := w.Sources()
	if err != nil {
		return err
	}
	o.External = filepath.Join(l.Shipped().Dir, "integration/buildroot")
	o.Dist = filepath.Join(o.Work, "dist")
	w.OutDir = o.Dist
	if _, err := w.dist(ctx, []string{"source"}); err != nil {
		return err
	}
	if o.Tree, err = filepath.Abs(tree); err != nil {
		return err
	}
	return buildroot.Check(ctx, o)
}

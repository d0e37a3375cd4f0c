package workspace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/pantavisor/pantavisor/build/gobinary"
	"github.com/pantavisor/pantavisor/integration/yocto"
)

// yoctoContainers are how many containers the image of the test layer has: network, and one from an
// image.
const yoctoContainers = 2

// Yocto checks the layer in the trees that the options name. It makes the source when they name
// none.
func (w *Workspace) Yocto(ctx context.Context, o yocto.Options) error {
	results := []yocto.Result{}
	o.Root, o.Out = w.Root, w.Stderr
	if o.Work == "" {
		o.Work = w.Out("yocto")
	}
	o.Tell = func(r yocto.Result) {
		results = append(results, r)
		if !w.JSON {
			fmt.Fprintln(w.Stdout, r)
		}
	}
	quiet := *w
	quiet.JSON, quiet.Stdout = false, io.Discard
	o.Save = quiet.Inputs
	o.Boot = func(ctx context.Context, target, image string) error {
		return quiet.bootImage(ctx, target, image, yoctoContainers)
	}
	err := quiet.yoctoSource(ctx, &o)
	if err == nil {
		err = yocto.Check(ctx, o)
	}
	if w.JSON {
		err = errors.Join(err, w.Print(results))
	}
	return err
}

// yoctoSource makes the source for the recipes when there is a tree, and it is not given.
func (w *Workspace) yoctoSource(ctx context.Context, o *yocto.Options) error {
	if o.OECore == "" || o.Source != "" {
		return nil
	}
	with := *w
	with.OutDir = filepath.Join(o.Work, "dist")
	if _, err := with.dist(ctx, []string{"source"}); err != nil {
		return err
	}
	o.Source = filepath.Join(with.distDir(), "pantavisor-"+gobinary.ReleaseName(w.Options.Release)+"-vendored.tar.gz")
	return nil
}

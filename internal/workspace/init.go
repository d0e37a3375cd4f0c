package workspace

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/product"
	"github.com/pantavisor/pantavisor/targets"
)

// Init makes the repository of a product in a directory, with the published version of
// this module that runs, or with the checkout from. The Go module's path may be empty.
func (w *Workspace) Init(ctx context.Context, dir, from, modulePath string) error {
	o, err := w.productOptions(dir, from)
	if err != nil {
		return err
	}
	o.Module = modulePath
	if o.Taken, err = targets.Names(targets.Builtin()); err != nil {
		return err
	}
	r, err := product.Make(ctx, o)
	if err != nil {
		return err
	}
	where := r.Dir
	if rel, err := filepath.Rel(w.Root, r.Dir); err == nil && len(rel) < len(where) {
		where = rel
	}
	return w.tell(Made{Target: r.Target, Directory: r.Dir}, func(out io.Writer) error {
		_, err := fmt.Fprintf(out, `made the product %[1]s in %[2]s. Next:
    cd %[2]s
    go tool mage lock %[1]s     # pin the newest Debian packages
    go tool mage run %[1]s      # build the image and boot it in QEMU
README.md says what is where; git init makes it a repository
`, r.Target, where)
		return err
	})
}

// productOptions finds the module that a product takes its commands from.
func (w *Workspace) productOptions(dir, from string) (product.Options, error) {
	o := product.Options{Dir: w.path(dir), Tool: modulePath}
	if from == "" {
		l, err := w.Sources()
		if err != nil {
			return o, err
		}
		o.ToolDir = l.Shipped().Dir
		if o.Version = cachedVersion(o.ToolDir); o.Version == "" {
			return o, fault.New(fault.BadInput, "this mage is made of the checkout %s, which has no published version: --from=%s makes a product that uses it", o.ToolDir, o.ToolDir)
		}
		return o, nil
	}
	o.ToolDir, o.From = w.path(from), filepath.Clean(from)
	if !isThisModule(o.ToolDir) {
		return o, fault.New(fault.BadInput, "--from=%s: it is not a checkout of %s", from, modulePath)
	}
	if !filepath.IsAbs(from) { // relative to the product, so that both can be moved
		rel, err := filepath.Rel(o.Dir, o.ToolDir)
		if err != nil {
			return o, fault.Wrap(fault.BadInput, err, "--from=%s", from)
		}
		if o.From = filepath.ToSlash(rel); !strings.HasPrefix(o.From, ".") {
			o.From = "./" + o.From
		}
	}
	return o, nil
}

// path is a path that a user typed.
func (w *Workspace) path(typed string) string {
	if filepath.IsAbs(typed) {
		return filepath.Clean(typed)
	}
	return filepath.Join(w.Root, typed)
}

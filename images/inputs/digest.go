package inputs

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/fragment"
)

// input is one file or directory of a list.
type input struct {
	field        string // in the list, "kernel.image"
	path, sha256 *string
	dir          bool // it is a directory
}

// all lists the inputs in the order of the list's fields.
func (l *List) all() []input {
	c := &collection{}
	c.file("runtime", l.Runtime)
	if l.Kernel != nil {
		c.kernel(l.Kernel)
	}
	for i := range l.Addons {
		at := fmt.Sprintf("addons[%d]", i)
		c.file(at+".archive", l.Addons[i].Archive)
		c.directory(at+".directory", l.Addons[i].Directory)
	}
	for i := range l.Containers {
		c.container(fmt.Sprintf("containers[%d]", i), &l.Containers[i])
	}
	for i := range l.Exports {
		c.file(fmt.Sprintf("exports[%d]", i), &l.Exports[i])
	}
	c.config(&l.Config)
	if l.Bootloader != nil {
		c.loader(l.Bootloader)
	}
	c.installing(l)
	if l.Signing != nil {
		c.file("signing.key", l.Signing.Key)
		c.file("signing.chain", l.Signing.Chain)
	}
	c.named("sbom", l.SBOM)
	c.named("vex", l.VEX)
	return c.list
}

// collection gathers inputs.
type collection struct{ list []input }

func (c *collection) add(field string, path, sum *string, dir bool) {
	c.list = append(c.list, input{field, path, sum, dir})
}

func (c *collection) file(field string, f *File) {
	if f != nil {
		c.add(field, &f.Path, &f.SHA256, false)
	}
}

func (c *collection) directory(field string, d *Directory) {
	if d != nil {
		c.add(field, &d.Path, &d.SHA256, true)
	}
}

func (c *collection) tree(field string, t *Tree) {
	if t != nil {
		c.add(field, &t.Path, &t.SHA256, t.Form == "directory" || t.Form == "oci")
	}
}

func (c *collection) named(field string, list []Named) {
	for i := range list {
		c.add(fmt.Sprintf("%s[%d]", field, i), &list[i].Path, &list[i].SHA256, false)
	}
}

func (c *collection) container(at string, o *Container) {
	c.tree(at+".root", &o.Root)
	c.file(at+".config", o.Config)
	c.file(at+".services", o.Services)
	c.file(at+".mdev", o.MDEV)
	c.file(at+".network", o.Network)
	c.directory(at+".overlay", o.Overlay)
}

func (c *collection) kernel(k *Kernel) {
	c.file("kernel.sbom", k.SBOM)
	c.file("kernel.image", &k.Image)
	c.file("kernel.config", k.Config)
	c.tree("kernel.modules", k.Modules)
	c.named("kernel.device_trees", k.DeviceTrees)
	c.named("kernel.overlays", k.Overlays)
	if k.Firmware == nil {
		return
	}
	for i := range k.Firmware.Trees {
		c.tree(fmt.Sprintf("kernel.firmware.trees[%d]", i), &k.Firmware.Trees[i])
	}
}

func (c *collection) config(o *Config) {
	c.file("config.runtime", &o.Runtime)
	c.file("config.hub", &o.Hub)
	c.file("config.image", o.Image)
	c.directory("config.defaults", &o.Defaults)
	c.directory("config.skel", o.Skel)
	c.directory("config.stepskel", o.Stepskel)
	c.named("config.trust", o.Trust)
	c.file("config.factory_token", o.FactoryToken)
}

func (c *collection) loader(b *Bootloader) {
	for i := range b.Packages {
		p := &b.Packages[i]
		c.add(fmt.Sprintf("bootloader.packages[%d]", i), &p.Path, &p.SHA256, true)
	}
	for i := range b.Files {
		f := &b.Files[i]
		c.add(fmt.Sprintf("bootloader.files[%d]", i), &f.Path, &f.SHA256, false)
	}
	for i := range b.Trees {
		t := &b.Trees[i]
		c.add(fmt.Sprintf("bootloader.trees[%d]", i), &t.Path, &t.SHA256, true)
	}
	for i := range b.Blobs {
		f := &b.Blobs[i]
		c.add(fmt.Sprintf("bootloader.blobs[%d]", i), &f.Path, &f.SHA256, false)
	}
	c.directory("bootloader.state", b.State)
}

func (c *collection) installing(l *List) {
	if i := l.Installer; i != nil {
		c.file("installer.program", &i.Program)
		c.directory("installer.tree", &i.Tree)
	}
	if l.Tezi == nil {
		return
	}
	for i, m := range l.Tezi.Modules {
		for j := range m.Blobs {
			b := &m.Blobs[j]
			c.add(fmt.Sprintf("tezi.modules[%d].blobs[%d]", i, j), &b.Path, &b.SHA256, false)
		}
	}
}

// Absolute makes the paths of the list absolute; those that are not are below dir.
func (l *List) Absolute(dir string) {
	l.Paths(func(path *string) {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(dir, *path)
		}
	})
}

// Paths calls f with the path of each input, which f may change.
func (l *List) Paths(f func(path *string)) {
	for _, in := range l.all() {
		f(in.path)
	}
}

// Digest reads all inputs, compares their digests with those of the list and fills in those
// that it does not have. The error has all that are wrong.
func (l *List) Digest(ctx context.Context) error {
	all := l.all()
	errs := make([]error, len(all))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.NumCPU())
	for i, in := range all {
		group.Go(func() error {
			errs[i] = l.digest(ctx, in)
			return ctx.Err()
		})
	}
	return errors.Join(append(errs, group.Wait())...)
}

func (l *List) digest(ctx context.Context, in input) error {
	sum, err := in.digest(ctx, l.place(*in.path))
	switch {
	case err != nil:
		return fault.Wrap(fault.IO, err, "reading %s", in.field)
	case *in.sha256 == "":
		*in.sha256 = sum
	case *in.sha256 != sum:
		return fault.New(fault.Digest, "%s: %s has the SHA-256 %s, the list says %s: it is another one, or it was changed", in.field, *in.path, sum, *in.sha256)
	}
	return nil
}

func (in input) digest(ctx context.Context, place string) (string, error) {
	if !in.dir {
		return fragment.Digest(ctx, place)
	}
	t, err := build.DigestTree(place)
	return t.Digest, err
}

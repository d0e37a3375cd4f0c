package containers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/debian/deb"
	"github.com/pantavisor/pantavisor/formats/squashfs"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/layers"
	"github.com/pantavisor/pantavisor/internal/spelling"
	"github.com/pantavisor/pantavisor/revision/app/template"
	"github.com/pantavisor/pantavisor/revision/fragment"
	"github.com/pantavisor/pantavisor/targets"
)

// Builder is a step whose output holds one program at File.
type Builder interface {
	build.Step
	File() string
}

// Options are the sources of the inputs of containers.
type Options struct {
	// Epoch is the time of all files.
	Epoch build.Stamp
	// Layers are searched for the directories of containers, in Directory of each. Default:
	// "containers".
	Layers    *layers.Layers
	Directory string
	// Groups and Disks are those of the device; nil when they are not known.
	Groups, Disks []string
	// Program returns the step that builds, for the target, a main package of the module
	// that a layer is.
	Program func(layer layers.Layer, pkg string) (Builder, error)
	// Packages returns the step that fetches a Debian package.
	Packages func(name string) (*debian.Fetch, error)
	// Dependencies returns the steps that fetch a Debian package and all that it depends on.
	Dependencies func(name string) ([]*debian.Fetch, error)
}

// Parts returns one step for each of the target's containers, in the target's order. It
// checks every definition first and reports all problems at once.
//
// The output of a step is a part of a state: "json" is the state fragment, and
// "objects" holds the files that it names, by SHA-256. Beside them are the texts with the
// licences of its Debian packages.
func Parts(t *targets.Target, o Options) ([]*Part, error) {
	var out []*Part
	var problems []string
	for _, name := range t.Containers {
		p, err := newPart(name, t, o)
		if err != nil {
			problems = append(problems, err.Error())
			continue
		}
		out = append(out, p)
	}
	if len(problems) > 0 {
		return nil, fault.New(fault.BadInput, "containers of target %q:\n%s", t.Name, strings.Join(problems, "\n"))
	}
	return out, nil
}

// Part is the step that makes one container.
type Part struct {
	Definition *Definition
	// Arch distinguishes the containers of different architectures.
	Arch string
	// Epoch is the time of all files.
	Epoch build.Stamp

	dir      string
	file     string // the definition, for messages
	programs []Builder
	packages []*debian.Fetch // as in the definition
	depended []*debian.Fetch // that packages depend on
}

var (
	_ build.Step      = (*Part)(nil)
	_ build.Large     = (*Part)(nil)
	_ build.Versioned = (*Part)(nil)
	_ build.Sourced   = (*Part)(nil)
)

func newPart(name string, t *targets.Target, o Options) (*Part, error) {
	if !nameForm.MatchString(name) {
		return nil, fmt.Errorf("%q is not a valid container name", name)
	}
	dir := cmp.Or(o.Directory, directory)
	place, ok := o.Layers.Find(path.Join(dir, name))
	if !ok {
		known, _ := o.Layers.Names(dir, definitionFile)
		return nil, spelling.Unknown("container", name, known)
	}
	file := filepath.Join(place.Path, definitionFile)
	if place.Layer == o.Layers.Top() {
		file = path.Join(place.Name, definitionFile)
	}
	d, f, err := load(place.Path, file)
	if err != nil {
		return nil, err
	}
	if d == nil {
		return nil, f.Err()
	}
	d = d.forArch(t.Arch.Debian)
	checker{File: f}.packages(d, t)
	p := &Part{Definition: d, Arch: t.Arch.Go + t.Arch.ARM + t.Arch.MIPS, Epoch: o.Epoch, dir: place.Path, file: file}
	checker{File: f}.device(d, o.Groups, o.Disks)
	for i, prog := range d.Root.Programs {
		step, err := o.Program(place.Layer, prog.Package)
		if err != nil {
			f.Wrong(fmt.Sprintf("root.programs[%d].package", i), "%v", err)
		}
		p.programs = append(p.programs, step)
	}
	if err := f.Err(); err != nil {
		return nil, err
	}
	if err := p.fetch(o); err != nil {
		return nil, fmt.Errorf("container %q: %w", name, err)
	}
	return p, nil
}

// fetch finds the steps for the packages and, where they are wanted, for those that they
// depend on.
func (p *Part) fetch(o Options) error {
	var depended []*debian.Fetch
	for _, pkg := range p.Definition.Root.Debian {
		f, err := o.Packages(pkg.Package)
		if err != nil {
			return fmt.Errorf("package %s: %w", pkg.Package, err)
		}
		p.packages = append(p.packages, f)
		if !pkg.Dependencies {
			continue
		}
		more, err := o.Dependencies(pkg.Package)
		if err != nil {
			return fmt.Errorf("dependencies of package %s: %w", pkg.Package, err)
		}
		depended = append(depended, more...)
	}
	for _, f := range depended {
		if !slices.Contains(p.packages, f) && !slices.Contains(p.depended, f) {
			p.depended = append(p.depended, f)
		}
	}
	return nil
}

// Name is "container/NAME/ARCH".
func (p *Part) Name() string { return "container/" + p.Definition.Name + "/" + p.Arch }

// Version of the step's logic.
func (p *Part) Version() int { return 3 }

// Keys are the keys of the state.
func (p *Part) Keys() []string {
	var out []string
	for _, file := range []string{template.ConfigName, rootFile, "run.json", sourceFile} {
		out = append(out, p.Definition.Name+"/"+file)
	}
	return out
}

// Memory is that for a squashfs.
func (*Part) Memory() int64 { return squashfs.Memory }

// Deps are the programs, the packages, then those that packages depend on.
func (p *Part) Deps() []build.Step {
	var out []build.Step
	for _, s := range p.programs {
		out = append(out, s)
	}
	for _, s := range slices.Concat(p.packages, p.depended) {
		out = append(out, s)
	}
	return out
}

// Sources lists the directory files/, if it exists.
func (p *Part) Sources() ([]build.Source, error) {
	files := filepath.Join(p.dir, "files")
	if _, err := os.Stat(files); err != nil {
		return nil, nil
	}
	return []build.Source{{Name: "containers/" + p.Definition.Name + "/files", Path: files}}, nil
}

// Run makes the root file system and the part of a state that uses it.
func (p *Part) Run(ctx context.Context, w *build.Work) error {
	root := rootfs{}
	if err := p.collect(ctx, w, root); err != nil {
		return fault.Wrap(fault.IO, err, "putting together container %s", p.Definition.Name)
	}
	image := filepath.Join(w.Tmp, rootFile)
	if err := root.write(ctx, image, p.Epoch.Time()); err != nil {
		return fault.Wrap(fault.IO, err, "writing the root of container %s", p.Definition.Name)
	}
	return fault.Wrap(fault.IO, p.writeState(ctx, w.Out, image), "making the state of container %s", p.Definition.Name)
}

// Names in the state.
const (
	rootFile   = "root.squashfs"
	sourceFile = "src.json"
)

// structure lists the directories that every root has, like those of an image from a
// registry: the template mounts over some of them.
var structure = []string{"proc", "sys", "dev", "tmp", "etc", "run", "var", "var/tmp", "var/run", "pantavisor", "lib/modules", "lib/firmware"}

func (p *Part) collect(ctx context.Context, w *build.Work, r rootfs) error {
	for i, prog := range p.Definition.Root.Programs {
		from := filepath.Join(w.In(p.programs[i]), filepath.FromSlash(p.programs[i].File()))
		if err := r.file(prog.Path, 0o755, from); err != nil {
			return err
		}
	}
	for i, pkg := range p.Definition.Root.Debian {
		if err := p.unpack(ctx, w, r, pkg, p.packages[i]); err != nil {
			return err
		}
	}
	for _, f := range p.depended {
		if err := p.unpack(ctx, w, r, Package{Package: f.Entry.Package}, f); err != nil {
			return err
		}
	}
	for _, l := range p.Definition.Root.Links {
		for _, at := range l.At {
			if err := r.add(tree.Symlink(at, l.Target)); err != nil {
				return err
			}
		}
	}
	if err := r.directory(ctx, filepath.Join(p.dir, "files")); err != nil {
		return err
	}
	if err := r.executable(p.Definition.Root.Executables); err != nil {
		return err
	}
	r.mkdirs(slices.Concat(structure, p.Definition.Root.Folders))
	return p.startable(r)
}

// startable checks the command in the finished root: packages may have brought it.
func (p *Part) startable(r rootfs) error {
	d := p.Definition
	command := slices.Concat(d.Entrypoint, d.Command)
	if len(command) == 0 {
		return nil
	}
	o := outlineOf(r)
	o.keep(d.Persistence)
	if err := o.runs(command, d.Env, d.WorkingDir); err != nil && !errors.Is(err, errUnknown) {
		return fault.New(fault.BadInput, "%s: the command cannot be started: %w", p.file, err)
	}
	return nil
}

// unpack adds the wanted files of a package; a path without any file is an error.
func (p *Part) unpack(ctx context.Context, w *build.Work, r rootfs, pkg Package, f *debian.Fetch) error {
	dir := filepath.Join(w.Tmp, pkg.Package)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	inner := build.NewWork(dir, w.Tmp, w.In, nil)
	keep := func(name string) bool { return pkg.wanted(name) != "" || name == f.Licence() }
	if err := f.Extract(ctx, inner, deb.Extract{Keep: keep, Place: pkg.place}); err != nil {
		return err
	}
	if err := keepLicence(w.Out, dir, pkg, f); err != nil {
		return fault.Wrap(fault.IO, err, "keeping the licence of %s", f.Entry)
	}
	for _, want := range pkg.Files {
		if _, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(want))); err != nil {
			return fault.New(fault.BadInput, "%s: package %s has no %s", p.file, f.Entry, want)
		}
	}
	return r.directory(ctx, dir)
}

// documentation are the directories of a package that nothing needs to run.
var documentation = []string{"usr/share/doc/", "usr/share/man/", "usr/share/info/", "usr/share/lintian/", "usr/share/locale/"}

// wanted returns the path of a package's file in the root, "" when it is not wanted. A file
// that the definition names is found on both sides of a merged /usr: Debian 12 has
// bin/busybox, Debian 13 usr/bin/busybox.
func (pkg Package) wanted(name string) string {
	if len(pkg.Files) == 0 {
		if slices.ContainsFunc(documentation, func(dir string) bool { return strings.HasPrefix(name+"/", dir) }) {
			return ""
		}
		return name
	}
	for _, name := range []string{name, otherSide(name)} {
		if name != "" && pkg.names(name) {
			return name
		}
	}
	return ""
}

// place is wanted for any path, also one that a link leads to: what is not wanted stays
// where it is.
func (pkg Package) place(name string) string { return cmp.Or(pkg.wanted(name), name) }

// names reports whether the definition names a file, or a directory that it is in.
func (pkg Package) names(name string) bool {
	return slices.ContainsFunc(pkg.Files, func(want string) bool {
		return name == strings.TrimSuffix(want, "/") || strings.HasSuffix(want, "/") && strings.HasPrefix(name, want)
	})
}

// merged are the directories of / that are links into /usr where that is merged.
var merged = []string{"bin/", "sbin/", "lib/", "lib32/", "lib64/", "libx32/"}

// otherSide returns the path of a file of a merged directory without the merge, or with it;
// "" for others.
func otherSide(name string) string {
	inUsr, below := strings.CutPrefix(name, "usr/")
	if !slices.ContainsFunc(merged, func(dir string) bool { return strings.HasPrefix(inUsr, dir) }) {
		return ""
	}
	if below {
		return inUsr
	}
	return "usr/" + name
}

// writeState writes the part of the state around a root file system.
func (p *Part) writeState(ctx context.Context, dir, image string) error {
	name := p.Definition.Name
	part, err := fragment.Create(dir)
	if err != nil {
		return err
	}
	root := name + "/" + rootFile
	if err := part.AddObject(ctx, root, image); err != nil {
		return err
	}
	sum, _ := part.State.Object(root)
	src, err := p.source(sum)
	if err != nil {
		return err
	}
	files, err := render(name, src)
	if err != nil {
		return fault.Wrap(fault.BadInput, err, "rendering container %s", name)
	}
	files[sourceFile] = src
	for file, data := range files {
		if err := part.AddBytes(name+"/"+file, data); err != nil {
			return err
		}
	}
	return part.Close()
}

// rootfs is a root file system under construction.
type rootfs tree.Set

func (r rootfs) add(e tree.Entry) error {
	if old, twice := r[e.Name]; twice && !(old.Mode.IsDir() && e.Mode.IsDir()) {
		return fault.New(fault.BadInput, "%s comes from two sources", e.Name)
	}
	r[e.Name] = e
	return nil
}

func (r rootfs) file(to string, perm fs.FileMode, from string) error {
	e, err := tree.File(from, to)
	if err != nil {
		return err
	}
	if !e.Mode.IsRegular() {
		return fault.New(fault.BadInput, "%s for %s is not a regular file", from, to)
	}
	e.Mode = perm
	return r.add(e)
}

func (r rootfs) executable(names []string) error {
	for _, n := range names {
		e, there := r[n]
		if !there || !e.Mode.IsRegular() {
			return fault.New(fault.BadInput, "root.executables: %s is not a file of the root", n)
		}
		e.Mode = 0o755
		r[n] = e
	}
	return nil
}

func (r rootfs) mkdirs(names []string) {
	for _, n := range names {
		perm := fs.FileMode(0o755)
		if n == "tmp" || n == "var/tmp" {
			perm = fs.ModeSticky | 0o777
		}
		if _, there := r[n]; !there {
			r[n] = tree.Dir(n, perm)
		}
	}
}

// directory adds the content of a directory, if it exists. Of the files' modes it keeps
// only the executable bit: the rest depends on who checked out the tree.
func (r rootfs) directory(ctx context.Context, dir string) error {
	if _, err := os.Stat(dir); err != nil {
		return nil
	}
	return tree.Walk(ctx, dir, tree.Options{Normal: tree.Normal{Portable: true}}, func(e tree.Entry) error {
		switch t := e.Mode.Type(); {
		case e.Name == ".":
			return nil
		case t == 0 || t == fs.ModeDir || t == fs.ModeSymlink:
			return r.add(e)
		}
		return fault.New(fault.BadInput, "%s is neither a file, a directory nor a symbolic link", e.Name)
	})
}

// write makes the squashfs: everything belongs to root, all times are the same.
func (r rootfs) write(ctx context.Context, file string, at time.Time) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	set := tree.Set(r)
	set.Complete()
	normal := tree.Normal{AllRoot: true, Time: at}
	err = squashfs.Write(ctx, f, squashfs.Options{Compression: squashfs.Zstd}, func(add func(tree.Entry) error) error {
		for _, e := range set.Sorted() {
			if err := add(normal.Apply(e)); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, f.Close())
}

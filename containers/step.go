package containers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
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
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/targets"
)

// Builder is a step whose output holds one program at File.
type Builder interface {
	build.Step
	File() string
}

// Options say where the inputs of containers come from.
type Options struct {
	// Epoch is the time of all files.
	Epoch build.Stamp
	// Dir is the folder containers/.
	Dir string
	// Program returns the step that builds a main package for the target.
	Program func(pkg string) Builder
	// Packages returns the step that fetches a Debian package.
	Packages func(name string) (*debian.Fetch, error)
}

// Parts returns the steps of the target's containers, one each, in the target's
// order. Every definition is checked before any work; all problems come at once.
//
// The output of a step is a part of a state: "json" is the state fragment, and
// "objects" holds the files that it names, by SHA-256.
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
		return nil, fault.New(fault.BadInput, "containers of target %q: %s", t.Name, strings.Join(problems, "; "))
	}
	return out, nil
}

// Part is the step that makes one container.
type Part struct {
	Definition *Definition
	// Arch keeps the containers of two architectures apart.
	Arch string
	// Epoch is the time of all files.
	Epoch build.Stamp

	dir      string
	programs []Builder
	packages []*debian.Fetch
}

var (
	_ build.Step      = (*Part)(nil)
	_ build.Versioned = (*Part)(nil)
	_ build.Sourced   = (*Part)(nil)
)

func newPart(name string, t *targets.Target, o Options) (*Part, error) {
	if !nameForm.MatchString(name) {
		return nil, fmt.Errorf("%q is no name of a container", name)
	}
	dir := filepath.Join(o.Dir, name)
	d, err := Load(dir)
	if err != nil {
		if known, _ := Names(o.Dir); fault.Of(err) == fault.Missing {
			return nil, targets.Unknown("container", name, known)
		}
		return nil, err
	}
	p := &Part{Definition: d, Arch: t.Arch.Go + t.Arch.ARM + t.Arch.MIPS, Epoch: o.Epoch, dir: dir}
	for _, prog := range d.Root.Programs {
		p.programs = append(p.programs, o.Program(prog.Package))
	}
	for _, pkg := range d.Root.Debian {
		f, err := o.Packages(pkg.Package)
		if err != nil {
			return nil, fmt.Errorf("container %q: package %s: %w", name, pkg.Package, err)
		}
		p.packages = append(p.packages, f)
	}
	return p, nil
}

// Name is "container/NAME/ARCH".
func (p *Part) Name() string { return "container/" + p.Definition.Name + "/" + p.Arch }

// Version of the step's logic.
func (p *Part) Version() int { return 2 }

// Deps are the programs, then the packages.
func (p *Part) Deps() []build.Step {
	var out []build.Step
	for _, s := range p.programs {
		out = append(out, s)
	}
	for _, s := range p.packages {
		out = append(out, s)
	}
	return out
}

// Sources is the folder files/, if there is one.
func (p *Part) Sources() ([]build.Source, error) {
	files := filepath.Join(p.dir, "files")
	if _, err := os.Stat(files); err != nil {
		return nil, nil
	}
	return []build.Source{{Name: "containers/" + p.Definition.Name + "/files", Path: files}}, nil
}

// Run makes the root file system and the part of the state around it.
func (p *Part) Run(ctx context.Context, w *build.Work) error {
	tree := &tree{entries: map[string]squashfs.Entry{}}
	if err := p.collect(ctx, w, tree); err != nil {
		return fault.Wrap(fault.IO, err, "putting together container %s", p.Definition.Name)
	}
	objects := filepath.Join(w.Out, "objects")
	if err := os.MkdirAll(objects, 0o755); err != nil {
		return fault.Wrap(fault.IO, err, "making container %s", p.Definition.Name)
	}
	image := filepath.Join(w.Tmp, "root.squashfs")
	if err := tree.write(ctx, image, p.Epoch.Time()); err != nil {
		return fault.Wrap(fault.IO, err, "writing the root of container %s", p.Definition.Name)
	}
	return p.writeState(w, objects, image)
}

// structure are the folders that every root gets, as an image of a registry does:
// the template mounts over some of them.
var structure = []string{"proc", "sys", "dev", "tmp", "etc", "run", "var", "var/tmp", "var/run", "pantavisor", "lib/modules", "lib/firmware"}

func (p *Part) collect(ctx context.Context, w *build.Work, t *tree) error {
	for i, prog := range p.Definition.Root.Programs {
		from := filepath.Join(w.In(p.programs[i]), filepath.FromSlash(p.programs[i].File()))
		if err := t.file(prog.Path, 0o755, from); err != nil {
			return err
		}
	}
	for i, pkg := range p.Definition.Root.Debian {
		if err := p.unpack(ctx, w, t, pkg, p.packages[i]); err != nil {
			return err
		}
	}
	for _, l := range p.Definition.Root.Links {
		for _, at := range l.At {
			if err := t.add(squashfs.Entry{Path: at, Mode: fs.ModeSymlink | 0o777, Link: l.Target}); err != nil {
				return err
			}
		}
	}
	if err := t.folder(filepath.Join(p.dir, "files"), ""); err != nil {
		return err
	}
	t.mkdirs(slices.Concat(structure, p.Definition.Root.Folders))
	return nil
}

// unpack adds the wanted files of a package; a wish that finds nothing is an error.
func (p *Part) unpack(ctx context.Context, w *build.Work, t *tree, pkg Package, f *debian.Fetch) error {
	dir := filepath.Join(w.Tmp, pkg.Package)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	inner := build.NewWork(dir, w.Tmp, w.In, nil)
	if err := f.Extract(ctx, inner, deb.Extract{Keep: pkg.keeps}); err != nil {
		return err
	}
	for _, want := range pkg.Files {
		if _, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(want))); err != nil {
			return fault.New(fault.BadInput, "package %s has no %s", f.Entry, want)
		}
	}
	return t.folder(dir, "")
}

func (pkg Package) keeps(name string) bool {
	for _, want := range pkg.Files {
		if name == strings.TrimSuffix(want, "/") || strings.HasSuffix(want, "/") && strings.HasPrefix(name, want) {
			return true
		}
	}
	return false
}

// writeState writes the objects and the state fragment.
func (p *Part) writeState(w *build.Work, objects, image string) error {
	name := p.Definition.Name
	sum, err := store(objects, image)
	if err != nil {
		return fault.Wrap(fault.IO, err, "storing the root of container %s", name)
	}
	src, err := p.source(sum)
	if err != nil {
		return err
	}
	files, err := render(name, src)
	if err != nil {
		return fault.Wrap(fault.BadInput, err, "rendering container %s", name)
	}
	files["src.json"] = src
	st := state.New(state.Spec)
	if err := st.SetObject(name+"/root.squashfs", sum); err != nil {
		return fault.Wrap(fault.BadInput, err, "making the state of container %s", name)
	}
	for file, data := range files {
		if err := putFile(st, objects, name+"/"+file, data); err != nil {
			return fault.Wrap(fault.IO, err, "making the state of container %s", name)
		}
	}
	return fault.Wrap(fault.IO, os.WriteFile(filepath.Join(w.Out, "json"), st.Encode(), 0o644), "writing the state of container %s", name)
}

// putFile adds a JSON file as a value and any other as an object.
func putFile(st *state.State, objects, key string, data []byte) error {
	if state.IsInline(key) {
		return st.Set(key, data)
	}
	sum, err := storeBytes(objects, data)
	if err != nil {
		return err
	}
	return st.SetObject(key, sum)
}

// store moves a file among the objects and returns its name there.
func store(objects, file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	sum := hex.EncodeToString(h.Sum(nil))
	return sum, os.Rename(file, filepath.Join(objects, sum))
}

func storeBytes(objects string, data []byte) (string, error) {
	sum := sha256.Sum256(data)
	name := hex.EncodeToString(sum[:])
	return name, os.WriteFile(filepath.Join(objects, name), data, 0o644)
}

// tree is a root file system in the making, by path.
type tree struct{ entries map[string]squashfs.Entry }

func (t *tree) add(e squashfs.Entry) error {
	if old, twice := t.entries[e.Path]; twice && !(old.Mode.IsDir() && e.Mode.IsDir()) {
		return fault.New(fault.BadInput, "%s comes from two sources", e.Path)
	}
	t.entries[e.Path] = e
	return nil
}

func (t *tree) file(to string, mode fs.FileMode, from string) error {
	return t.add(squashfs.Entry{Path: to, Mode: mode, Open: func() (io.ReadCloser, error) { return os.Open(from) }})
}

func (t *tree) mkdirs(names []string) {
	for _, n := range names {
		mode := fs.FileMode(0o755)
		if n == "tmp" || n == "var/tmp" {
			mode = fs.ModeSticky | 0o777
		}
		if _, there := t.entries[n]; !there {
			t.entries[n] = squashfs.Entry{Path: n, Mode: fs.ModeDir | mode}
		}
	}
}

// folder adds what is in a folder; one that does not exist adds nothing.
func (t *tree) folder(dir, at string) error {
	if _, err := os.Stat(dir); err != nil {
		return nil
	}
	return filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || file == dir {
			return err
		}
		rel, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return t.addFound(path.Join(at, filepath.ToSlash(rel)), file, info)
	})
}

// addFound adds a file of this machine. Only the executable bit of its mode is
// taken: the rest depends on who checked the tree out.
func (t *tree) addFound(name, file string, info fs.FileInfo) error {
	switch mode := info.Mode(); {
	case mode.IsDir():
		return t.add(squashfs.Entry{Path: name, Mode: fs.ModeDir | 0o755})
	case mode&fs.ModeSymlink != 0:
		target, err := os.Readlink(file)
		if err != nil {
			return err
		}
		return t.add(squashfs.Entry{Path: name, Mode: fs.ModeSymlink | 0o777, Link: target})
	case mode.IsRegular() && mode&0o111 != 0:
		return t.file(name, 0o755, file)
	case mode.IsRegular():
		return t.file(name, 0o644, file)
	}
	return fault.New(fault.BadInput, "%s is neither file, folder nor link", name)
}

// write makes the squashfs: everything belongs to root, all times are the same.
func (t *tree) write(ctx context.Context, file string, at time.Time) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	sw, err := squashfs.NewWriter(f, squashfs.Options{Compression: squashfs.Zstd, AllRoot: true, Time: at})
	if err != nil {
		return err
	}
	names := make([]string, 0, len(t.entries))
	for n := range t.entries {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		if err = sw.Add(ctx, t.entries[n]); err != nil {
			break
		}
	}
	if cerr := sw.Close(); err == nil {
		err = cerr
	}
	return err
}

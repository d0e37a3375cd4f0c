package images

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/tarball"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// appEngineFile is the file in the output of an [AppEngine].
const appEngineFile = "appengine.tgz"

// packageDir is the top directory in the tarball.
const packageDir = "appengine"

// packaged are the files of the package that are the same for every target.
//
//go:embed appengine
var packaged embed.FS

// AppEngine is the step that packs the runtime for an existing Linux system (manual: App
// Engine): the program, its configuration, the storage with revision 0 and an install
// script, all in the directory appengine/.
type AppEngine struct {
	// Target is its name.
	Target string
	// Release is the version of the firmware; may be empty.
	Release string
	// Packages are the pinned packages of the target.
	Packages []string
	// Trust are certificates and keys by their name in the trust directory.
	Trust []Trust
	// Epoch is the time of all members.
	Epoch build.Stamp
	// Packaged is the digest of the files that every package has; see [packagedDigest].
	Packaged string
	// Config is pantavisor.config, Defaults the directory with the policies, Skel that of
	// the vendor; it may be nil.
	Config   build.Source  `json:"-"`
	Defaults build.Source  `json:"-"`
	Skel     *build.Source `json:"-"`
	// Program and Storage go into the package.
	Program Artefact `json:"-"`
	Storage *Trail   `json:"-"`
}

var (
	_ build.Step      = (*AppEngine)(nil)
	_ build.Versioned = (*AppEngine)(nil)
	_ build.Sourced   = (*AppEngine)(nil)
	_ build.Replacing = (*AppEngine)(nil)
)

// Name of the step.
func (s *AppEngine) Name() string { return "appengine/package" }

// Version of the step's logic.
func (s *AppEngine) Version() int { return 2 }

// Deps are the program and the storage.
func (s *AppEngine) Deps() []build.Step { return []build.Step{s.Program.Step, s.Storage} }

// Sources are the configuration, the defaults, the certificates and the vendor's files.
func (s *AppEngine) Sources() ([]build.Source, error) {
	return configSources(s.Config, s.Defaults, s.Trust, s.Skel)
}

// Run writes the tarball.
func (s *AppEngine) Run(ctx context.Context, w *build.Work) error {
	program, err := fileEntry(s.Program.in(w), appEngineProgram)
	if err != nil {
		return fault.Wrap(fault.IO, err, "packing the program")
	}
	all, err := s.assemble(ctx, program)
	if err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(w.Out, appEngineFile))
	if err != nil {
		return fault.Wrap(fault.IO, err, "packing the App Engine")
	}
	defer f.Close()
	if err := s.pack(ctx, w, f, all.files); err != nil {
		return fault.Wrap(fault.IO, err, "packing the App Engine")
	}
	return fault.Wrap(fault.IO, f.Close(), "packing the App Engine")
}

// appEngineProgram is the name of the device binary in the package.
const appEngineProgram = "pantavisor"

// Replaces lists the files of skel and of upper directories that replace others.
func (s *AppEngine) Replaces(ctx context.Context, _ func(build.Step) string) ([]build.Replacement, error) {
	all, err := s.assemble(ctx, tree.Entry{Name: appEngineProgram})
	if err != nil {
		return nil, err
	}
	return all.over.Replaced(), nil
}

// assemble returns everything except the storage.
func (s *AppEngine) assemble(ctx context.Context, program tree.Entry) (*assembly, error) {
	a := &assembly{files: fileSet{}}
	own := fileSet{}
	if err := addPackaged(own); err != nil {
		return nil, err
	}
	own["build"] = tree.Bytes("build", 0o644, buildText(s.Release, s.Target, s.Epoch, s.Packages))
	program.Mode = 0o755
	own[program.Name] = program
	for _, tool := range []string{"pvcontrol", "pvcurl", "pventer"} {
		own[tool] = tree.Symlink(tool, appEngineProgram)
	}
	config, err := fileEntry(s.Config.Path, "etc/pantavisor.config")
	if err != nil {
		return nil, fault.New(fault.Missing, "reading configuration: %w", err)
	}
	own[config.Name] = config
	for _, e := range own {
		a.put(e, s.Name())
	}
	return a, a.configuration(ctx, s.Defaults, s.Trust, s.Skel)
}

// packagedDigest returns the SHA-256 of the files that every package has: they are
// compiled in, but the build graph does not count them as code.
func packagedDigest() (string, error) {
	t := fileSet{}
	if err := addPackaged(t); err != nil {
		return "", err
	}
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(t)) {
		_, _ = fmt.Fprintf(sum, "%s %o %d\n", name, tree.StatMode(t[name].Mode), t[name].Size)
		if err := copyContent(sum, t[name]); err != nil {
			return "", fmt.Errorf("reading %s: %w", name, err)
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func copyContent(w io.Writer, e tree.Entry) error {
	r, err := e.Open()
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, r.Close())
}

// addPackaged adds the files that every package has.
func addPackaged(t fileSet) error {
	return fs.WalkDir(packaged, packageDir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := packaged.ReadFile(name)
		if err != nil {
			return err
		}
		base, mode := strings.TrimPrefix(name, packageDir+"/"), fs.FileMode(0o644)
		if base == "install" {
			mode = 0o755
		}
		t[base] = tree.Bytes(base, mode, text)
		return nil
	})
}

// pack writes the members in order: those of the tree, then the storage.
func (s *AppEngine) pack(ctx context.Context, w *build.Work, out io.Writer, t fileSet) error {
	zip, err := gzip.NewWriterLevel(out, gzip.BestCompression)
	if err != nil {
		return err
	}
	p := &packer{out: tarball.NewWriter(zip), normal: tree.Normal{AllRoot: true, Time: s.Epoch.Time()}, made: map[string]bool{}}
	if err := p.directory(packageDir); err != nil {
		return err
	}
	for _, e := range tree.Set(t).Sorted() {
		if err := p.add(e); err != nil {
			return fmt.Errorf("adding %s: %w", e.Name, err)
		}
		w.Contains(e.Name, e.Size)
	}
	if err := p.storage(ctx, filepath.Join(w.In(s.Storage), StorageDir)); err != nil {
		return fmt.Errorf("adding the storage: %w", err)
	}
	return errors.Join(p.out.Close(), zip.Close())
}

// packer writes members below packageDir, each after the directories above it.
type packer struct {
	out    *tarball.Writer
	normal tree.Normal
	made   map[string]bool
}

// directory adds a directory and those above it, once.
func (p *packer) directory(name string) error {
	if name == "." || p.made[name] {
		return nil
	}
	if err := p.directory(path.Dir(name)); err != nil {
		return err
	}
	p.made[name] = true
	return p.out.Add(p.normal.Apply(tree.Dir(name, 0o755)))
}

func (p *packer) add(e tree.Entry) error {
	e.Name = path.Join(packageDir, e.Name)
	if e.Mode.IsDir() {
		return p.directory(e.Name)
	}
	if err := p.directory(path.Dir(e.Name)); err != nil {
		return err
	}
	if e.HardLink != "" {
		e.HardLink = path.Join(packageDir, e.HardLink)
	}
	return p.out.Add(p.normal.Apply(e))
}

// storage adds the tree of a storage.
func (p *packer) storage(ctx context.Context, dir string) error {
	return walkStorage(ctx, dir, func(e tree.Entry) error {
		e.Name = path.Join(StorageDir, e.Name)
		if e.HardLink != "" {
			e.HardLink = path.Join(StorageDir, e.HardLink)
		}
		return p.add(e)
	})
}

// walkStorage calls add for the tree of a storage, with modes that do not depend on this
// machine. Objects come before the revisions that link to them and remain hard links.
func walkStorage(ctx context.Context, dir string, add func(tree.Entry) error) error {
	return tree.Walk(ctx, dir, tree.Options{}, func(e tree.Entry) error {
		switch {
		case e.Mode.Type() == fs.ModeSymlink:
			e.Mode = fs.ModeSymlink | 0o777
		case e.Mode.IsDir():
			e.Mode = fs.ModeDir | 0o755
		case path.Base(e.Name) == "pantahub.config": // a secret is added to it later
			e.Mode = e.Mode.Type() | 0o600
		default:
			e.Mode = e.Mode.Type() | 0o644
		}
		return add(e)
	})
}

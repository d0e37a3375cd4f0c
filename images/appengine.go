package images

import (
	"archive/tar"
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
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/cpio"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// AppEngineFile is the file in the output of an [AppEngine].
const AppEngineFile = "appengine.tgz"

// packageDir is the one folder in the tarball.
const packageDir = "appengine"

// packaged are the files of the package that are the same for every target.
//
//go:embed appengine
var packaged embed.FS

// AppEngine is the step that packs the runtime for a Linux that is set up already
// (manual: App Engine): the program, its configuration, the storage with revision 0
// and an install script, all in the folder appengine/.
type AppEngine struct {
	// Target is its name.
	Target string
	// Release is what the firmware calls itself; empty when nobody named it.
	Release string
	// Packages are the pinned packages that the target is made of.
	Packages []string
	// Trust are certificates and keys by their name in the trust folder.
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
	t, err := s.tree(w)
	if err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(w.Out, AppEngineFile))
	if err != nil {
		return fault.Wrap(fault.IO, err, "packing the App Engine")
	}
	defer f.Close()
	if err := s.pack(ctx, w, f, t); err != nil {
		return fault.Wrap(fault.IO, err, "packing the App Engine")
	}
	return fault.Wrap(fault.IO, f.Close(), "packing the App Engine")
}

// tree is everything but the storage, by name.
func (s *AppEngine) tree(w *build.Work) (tree, error) {
	t := tree{}
	if err := addPackaged(t); err != nil {
		return nil, err
	}
	program, err := fileEntry(s.Program.in(w), "pantavisor")
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "packing the program")
	}
	t["build"] = cpio.Bytes("build", 0o644, buildText(s.Release, s.Target, s.Epoch, s.Packages))
	program.Mode = cpio.TypeRegular | 0o755
	t["pantavisor"] = program
	for _, tool := range []string{"pvcontrol", "pvcurl", "pventer"} {
		t[tool] = cpio.Symlink(tool, "pantavisor")
	}
	config, err := fileEntry(s.Config.Path, "etc/pantavisor.config")
	if err != nil {
		return nil, fault.New(fault.Missing, "reading configuration: %w", err)
	}
	t[config.Name] = config
	if err := t.add(s.Defaults.Path, "etc/pantavisor/defaults"); err != nil {
		return nil, err
	}
	t.move("etc/pantavisor/defaults/policies", "etc/pantavisor/policies")
	for _, trust := range s.Trust {
		name := "etc/pantavisor/pvs/trust/" + trust.Name
		if t[name], err = fileEntry(trust.Path, name); err != nil {
			return nil, err
		}
	}
	if s.Skel != nil {
		err = t.add(s.Skel.Path, "")
	}
	return t, err
}

// packagedDigest is the SHA-256 of the files that every package has: they are compiled
// in, but are not code that the build graph sees.
func packagedDigest() string {
	t := tree{}
	if err := addPackaged(t); err != nil {
		panic(err) // they are in this program
	}
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(t)) {
		r, err := t[name].Open()
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(sum, "%s %o %d\n", name, t[name].Mode, t[name].Size)
		if _, err := io.Copy(sum, r); err != nil {
			panic(err)
		}
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// addPackaged adds the files that every package has.
func addPackaged(t tree) error {
	return fs.WalkDir(packaged, packageDir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := packaged.ReadFile(name)
		if err != nil {
			return err
		}
		base, mode := strings.TrimPrefix(name, packageDir+"/"), uint32(0o644)
		if base == "install" {
			mode = 0o755
		}
		t[base] = cpio.Bytes(base, mode, text)
		return nil
	})
}

// pack writes the members in order: those of the tree, then the storage.
func (s *AppEngine) pack(ctx context.Context, w *build.Work, out io.Writer, t tree) error {
	zip, err := gzip.NewWriterLevel(out, gzip.BestCompression)
	if err != nil {
		return err
	}
	p := &packer{tar: tar.NewWriter(zip), stamp: s.Epoch, names: map[fileID]string{}}
	if err := p.folder(packageDir); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(t)) {
		if err := p.entry(t[name]); err != nil {
			return fmt.Errorf("adding %s: %w", name, err)
		}
		w.Contains(name, t[name].Size)
	}
	if err := p.storage(ctx, filepath.Join(w.In(s.Storage), StorageDir)); err != nil {
		return fmt.Errorf("adding the storage: %w", err)
	}
	return errors.Join(p.tar.Close(), zip.Close())
}

// packer writes members that belong to root and have one time.
type packer struct {
	tar   *tar.Writer
	stamp build.Stamp
	made  map[string]bool
	names map[fileID]string // first member of each file with several names
}

func (p *packer) header(h *tar.Header) error {
	h.Format, h.ModTime = tar.FormatPAX, p.stamp.Time()
	return p.tar.WriteHeader(h)
}

// folder adds a folder and those above it, once.
func (p *packer) folder(name string) error {
	if name == "." || p.made[name] {
		return nil
	}
	if err := p.folder(filepath.Dir(name)); err != nil {
		return err
	}
	if p.made == nil {
		p.made = map[string]bool{}
	}
	p.made[name] = true
	return p.header(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755})
}

// entry adds a file, folder or link of the tree.
func (p *packer) entry(e cpio.Entry) error {
	name := packageDir + "/" + e.Name
	if isDir(e) {
		return p.folder(name)
	}
	if err := p.folder(filepath.Dir(name)); err != nil {
		return err
	}
	if e.Link != "" {
		return p.header(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: e.Link, Mode: 0o777})
	}
	return p.content(name, int64(e.Mode&0o777), e.Size, e.Open)
}

func (p *packer) content(name string, mode, size int64, open func() (io.ReadCloser, error)) error {
	if err := p.header(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: size}); err != nil || size == 0 {
		return err
	}
	r, err := open()
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(p.tar, r)
	return err
}

// storage adds the tree of a storage. Objects come before the revisions that link
// to them, and stay one file.
func (p *packer) storage(ctx context.Context, dir string) error {
	return filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
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
		return p.stored(packageDir+"/"+filepath.ToSlash(filepath.Join(StorageDir, rel)), file, info)
	})
}

func (p *packer) stored(name, file string, info fs.FileInfo) error {
	switch {
	case info.IsDir():
		return p.folder(name)
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(file)
		if err != nil {
			return err
		}
		return p.header(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777})
	}
	id, several := idOf(info)
	if first, again := p.names[id]; again && several {
		return p.header(&tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: first})
	}
	p.names[id] = name
	mode := int64(0o644)
	if strings.HasSuffix(name, "/pantahub.config") { // it will hold a secret
		mode = 0o600
	}
	return p.content(name, mode, info.Size(), func() (io.ReadCloser, error) { return os.Open(file) })
}

// UbootStore is the step that makes the values of the boot loader whose part the
// App Engine takes: revision 0 is good, nothing is to be tried.
type UbootStore struct{}

var _ build.Step = (*UbootStore)(nil)

// Name of the step.
func (*UbootStore) Name() string { return "appengine/uboot" }

// Deps is empty.
func (*UbootStore) Deps() []build.Step { return nil }

// Run writes boot/uboot.txt (manual: Storage): entries that end with NUL, and one
// more NUL.
func (*UbootStore) Run(_ context.Context, w *build.Work) error {
	file := filepath.Join(w.Out, "boot", "uboot.txt")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fault.Wrap(fault.IO, err, "writing the boot loader's values")
	}
	return fault.Wrap(fault.IO, os.WriteFile(file, []byte("pv_rev=0\x00\x00"), 0o644), "writing the boot loader's values")
}

package dist

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/build/gobinary"
	"github.com/pantavisor/pantavisor/formats/tarball"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// sourceWord names the source among platforms.
const sourceWord = "source"

// source is the step that packs the module with the modules that it needs, in vendor/, for build
// systems that compile without a network. Its directory is pantavisor-RELEASE.
type source struct {
	Release string
	Epoch   build.Stamp
	// Toolchain is the version of the go command, which writes vendor/.
	Toolchain string
	root      string
}

var (
	_ build.Step    = (*source)(nil)
	_ build.Sourced = (*source)(nil)
)

// Name implements build.Step.
func (s *source) Name() string { return "dist/source" }

// Deps implements build.Step.
func (s *source) Deps() []build.Step { return nil }

// notSource are names at the top of a checkout that are made by commands (.gitignore).
var notSource = []string{"out", "device", "pvr", "vendor", "mage_output_file.go"}

// Sources are the files and directories at the top of the module, without hidden ones.
func (s *source) Sources() ([]build.Source, error) {
	entries, err := os.ReadDir(s.root)
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "reading the sources")
	}
	var out []build.Source
	for _, e := range entries {
		name := e.Name()
		if !strings.HasPrefix(name, ".") && !strings.HasSuffix(name, ".test") && !slices.Contains(notSource, name) {
			out = append(out, build.Source{Name: name, Path: filepath.Join(s.root, name)})
		}
	}
	return out, nil
}

func (s *source) stem() string { return "pantavisor-" + gobinary.ReleaseName(s.Release) }

// file is the archive's name.
func (s *source) file() string { return s.stem() + "-vendored.tar.gz" }

// Run implements build.Step.
func (s *source) Run(ctx context.Context, w *build.Work) (err error) {
	vendored := filepath.Join(w.Tmp, "vendor")
	if err := s.vendor(ctx, vendored); err != nil {
		return err
	}
	sources, err := s.Sources()
	if err != nil {
		return err
	}
	out, err := os.Create(filepath.Join(w.Out, s.file()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	return s.write(ctx, out, append(sources, build.Source{Name: "vendor", Path: vendored}))
}

// vendor copies the packages of other modules that this one imports.
func (s *source) vendor(ctx context.Context, to string) error {
	cmd := exec.CommandContext(ctx, "go", "mod", "vendor", "-o", to)
	cmd.Dir = s.root
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOTOOLCHAIN=local", "GOFLAGS=")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fault.New(fault.Missing, "copying the modules: go mod vendor: %w: %s", err, strings.TrimSpace(said.String()))
	}
	return nil
}

// write writes the archive; all is root's and of one time.
func (s *source) write(ctx context.Context, to io.Writer, sources []build.Source) error {
	z, err := gzip.NewWriterLevel(to, gzip.BestCompression)
	if err != nil {
		return err
	}
	t := tarball.NewWriter(z)
	normal := tree.Normal{AllRoot: true, Portable: true, Time: s.Epoch.Time()}
	add := func(e tree.Entry) error {
		switch {
		case e.Mode.IsDir() || e.Mode.Perm()&0o111 != 0:
			e.Mode = e.Mode.Type() | 0o755
		default:
			e.Mode = e.Mode.Type() | 0o644
		}
		e.HardLink = ""
		return errors.Join(t.Add(normal.Apply(e)), ctx.Err())
	}
	if err := add(tree.Dir(s.stem(), 0o755)); err != nil {
		return err
	}
	for _, from := range sources {
		if err := addSource(ctx, s.stem()+"/"+from.Name, from.Path, add); err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), z.Close())
}

// addSource adds a file, or a directory with all below it.
func addSource(ctx context.Context, name, from string, add func(tree.Entry) error) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		e, err := tree.File(from, name)
		return errors.Join(err, addFound(e, add))
	}
	return tree.Walk(ctx, from, tree.Options{}, func(e tree.Entry) error {
		if e.Name == "." {
			e.Name = name
		} else {
			e.Name = name + "/" + e.Name
		}
		return addFound(e, add)
	})
}

// addFound adds what a source has: files, directories and links.
func addFound(e tree.Entry, add func(tree.Entry) error) error {
	if !e.Mode.IsRegular() && !e.Mode.IsDir() && e.Mode.Type() != fs.ModeSymlink {
		return fault.New(fault.BadInput, "%s is neither a file nor a directory: it is not part of a source", e.Name)
	}
	return add(e)
}

// hashes is the step that writes the digest of the source as Buildroot wants it: a directory that
// BR2_GLOBAL_PATCH_DIR can name (Buildroot's manual: Adding new packages, the .hash file).
type hashes struct{ Source *source }

var _ build.Step = (*hashes)(nil)

// hashed are the packages of the external tree that are made from the source.
var hashed = []string{"pantavisor", "pvcompose", "pvr"}

func hashFile(name string) string { return "buildroot/" + name + "/" + name + ".hash" }

// Name implements build.Step.
func (s *hashes) Name() string { return "dist/buildroot" }

// Deps implements build.Step.
func (s *hashes) Deps() []build.Step { return []build.Step{s.Source} }

// Run implements build.Step.
func (s *hashes) Run(_ context.Context, w *build.Work) error {
	h := sha256.New()
	if err := copyFile(h, filepath.Join(w.In(s.Source), s.Source.file())); err != nil {
		return err
	}
	text := fmt.Appendf(nil, "# Calculated by mage dist\nsha256  %x  %s\n", h.Sum(nil), s.Source.file())
	for _, name := range hashed {
		to := filepath.Join(w.Out, filepath.FromSlash(hashFile(name)))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(to, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

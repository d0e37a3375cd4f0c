// Package dist makes what is released: the host tool pvr, an archive for each platform; pvci, for the
// platforms that runners of pipelines have; the source with all modules that it needs, for builds
// without a network; and their checksums.
package dist

import (
	"archive/zip"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"time"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/build/gobinary"
	"github.com/pantavisor/pantavisor/build/gosource"
	"github.com/pantavisor/pantavisor/formats/tarball"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/targets"
)

// Options describe a distribution.
type Options struct {
	// Module has the sources.
	Module *gosource.Module
	// Release is in the names of the archives and what the tool calls itself; empty: devel.
	Release string
	// Epoch is the time of everything in the archives.
	Epoch build.Stamp
	// Platforms are those to make, from [Choose].
	Platforms []Platform
	// Source adds the source.
	Source bool
}

// tool is a program that is released: cmd/NAME in the module.
type tool string

const (
	pvr  tool = "pvr"
	pvci tool = "pvci"
)

// tools returns those that there are for a platform. pvci builds images and looks at the machine, which
// needs Linux.
func tools(p Platform) []tool {
	if p.OS == "linux" && (p.Arch.Go == "amd64" || p.Arch.Go == "arm64") {
		return []tool{pvr, pvci}
	}
	return []tool{pvr}
}

// sumsName is the file of checksums, in the form of sha256sum.
const sumsName = "SHA256SUMS"

// Artefacts returns what a distribution consists of.
func Artefacts(o Options) []build.Artefact {
	words := map[tool]*completions{}
	for _, t := range []tool{pvr, pvci} {
		words[t] = &completions{Tool: t, Program: o.program(t, Platform{"linux", targets.Arch{Go: runtime.GOARCH}})}
	}
	sums := &checksums{}
	var all []build.Artefact
	if o.Source {
		src := &source{Release: o.Release, Epoch: o.Epoch, Toolchain: runtime.Version(), root: o.Module.Root()}
		sums.Archives = append(sums.Archives, src)
		hashes := &hashes{Source: src}
		all = append(all, build.Artefact{Step: src, From: src.file(), To: src.file()})
		for _, name := range hashed {
			all = append(all, build.Artefact{Step: hashes, From: hashFile(name), To: hashFile(name)})
		}
	}
	for _, p := range o.Platforms {
		for _, t := range tools(p) {
			a := &archive{
				Tool: t, Program: o.program(t, p), Completions: words[t], License: filepath.Join(o.Module.Root(), "LICENSE"),
				Platform: p.word(), Zip: p.OS == "windows", Release: o.Release, Epoch: o.Epoch,
			}
			sums.Archives = append(sums.Archives, a)
			all = append(all, build.Artefact{Step: a, From: a.file(), To: a.file()})
		}
	}
	return append(all, build.Artefact{Step: sums, From: sumsName, To: sumsName})
}

func (o *Options) program(t tool, p Platform) *gobinary.Step {
	s := gobinary.New(o.Module, "cmd/"+string(t), p.Arch)
	s.Release = o.Release
	if p.OS != "linux" {
		s.OS = p.OS
	}
	return s
}

// completions is the step that asks the tool for the completion scripts of shells.
type completions struct {
	Tool    tool
	Program *gobinary.Step // for this machine
}

// shells are those that there are completion scripts for.
var shells = []string{"bash", "fish", "zsh"}

// script returns the usual name of a script.
func (t tool) script(shell string) string {
	if shell == "zsh" {
		return "_" + string(t)
	}
	return string(t) + "." + shell
}

var _ build.Step = (*completions)(nil)

// Name implements build.Step.
func (c *completions) Name() string { return "dist/completions-" + string(c.Tool) }

// Deps implements build.Step.
func (c *completions) Deps() []build.Step { return []build.Step{c.Program} }

// Run implements build.Step.
func (c *completions) Run(ctx context.Context, w *build.Work) error {
	program := filepath.Join(w.In(c.Program), filepath.FromSlash(c.Program.File()))
	for _, shell := range shells {
		if err := complete(ctx, program, shell, filepath.Join(w.Out, c.Tool.script(shell)), w.Tmp); err != nil {
			return fmt.Errorf("making the completion script of %s: %w", shell, err)
		}
	}
	return nil
}

// member is a file of an archive.
type member struct {
	name string
	path string
	perm os.FileMode
}

// archive is the step that packs the tool for one platform, in a directory of the archive's
// name.
type archive struct {
	Tool        tool
	Program     *gobinary.Step
	Completions *completions
	License     string `json:"-"`
	Platform    string
	Zip         bool
	Release     string
	Epoch       build.Stamp
}

var (
	_ build.Step    = (*archive)(nil)
	_ build.Sourced = (*archive)(nil)
)

// Name implements build.Step.
func (a *archive) Name() string { return "dist/" + string(a.Tool) + "_" + a.Platform }

// Deps implements build.Step.
func (a *archive) Deps() []build.Step { return []build.Step{a.Program, a.Completions} }

// Sources implements build.Sourced.
func (a *archive) Sources() ([]build.Source, error) {
	return []build.Source{{Name: "LICENSE", Path: a.License}}, nil
}

// stem is the archive's name without its ending.
func (a *archive) stem() string {
	return string(a.Tool) + "_" + gobinary.ReleaseName(a.Release) + "_" + a.Platform
}

// file is the archive's name.
func (a *archive) file() string {
	if a.Zip {
		return a.stem() + ".zip"
	}
	return a.stem() + ".tar.gz"
}

// Run implements build.Step.
func (a *archive) Run(ctx context.Context, w *build.Work) (err error) {
	members := []member{
		{"LICENSE", a.License, 0o644},
		{path.Base(a.Program.File()), filepath.Join(w.In(a.Program), filepath.FromSlash(a.Program.File())), 0o755},
	}
	for _, shell := range shells {
		name := a.Tool.script(shell)
		members = append(members, member{"completions/" + name, filepath.Join(w.In(a.Completions), name), 0o644})
	}
	out, err := os.Create(filepath.Join(w.Out, a.file()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if a.Zip {
		return writeZip(ctx, out, a.stem(), members, a.Epoch.Time())
	}
	return writeTar(ctx, out, a.stem(), members, a.Epoch.Time())
}

// writeTar writes the members as root's, all of one time.
func writeTar(ctx context.Context, to io.Writer, dir string, members []member, at time.Time) error {
	z, err := gzip.NewWriterLevel(to, gzip.BestCompression)
	if err != nil {
		return err
	}
	t := tarball.NewWriter(z)
	normal := tree.Normal{AllRoot: true, Portable: true, Time: at}
	for _, name := range []string{dir, dir + "/completions"} {
		if err := t.Add(normal.Apply(tree.Dir(name, 0o755))); err != nil {
			return err
		}
	}
	for _, m := range members {
		e, err := tree.File(m.path, dir+"/"+m.name)
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		e.Mode = m.perm
		if err := t.Add(normal.Apply(e)); err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), z.Close())
}

// writeZip writes the members, all of one time.
func writeZip(ctx context.Context, to io.Writer, dir string, members []member, at time.Time) error {
	z := zip.NewWriter(to)
	for _, m := range members {
		if err := ctx.Err(); err != nil {
			return err
		}
		h := &zip.FileHeader{Name: dir + "/" + m.name, Method: zip.Deflate, Modified: at}
		h.SetMode(m.perm)
		w, err := z.CreateHeader(h)
		if err != nil {
			return err
		}
		if err := copyFile(w, m.path); err != nil {
			return err
		}
	}
	return z.Close()
}

func copyFile(to io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(to, f)
	return err
}

// packed is a step that makes one archive.
type packed interface {
	build.Step
	// file is the archive's name.
	file() string
}

// checksums is the step that makes the file of checksums.
type checksums struct {
	Archives []packed `json:"-"`
}

var _ build.Step = (*checksums)(nil)

// Name implements build.Step.
func (s *checksums) Name() string { return "dist/checksums" }

// Deps implements build.Step.
func (s *checksums) Deps() []build.Step {
	var deps []build.Step
	for _, a := range s.Archives {
		deps = append(deps, a)
	}
	return deps
}

// Run implements build.Step.
func (s *checksums) Run(_ context.Context, w *build.Work) error {
	var text []byte
	for _, a := range s.Archives {
		h := sha256.New()
		if err := copyFile(h, filepath.Join(w.In(a), a.file())); err != nil {
			return err
		}
		text = fmt.Appendf(text, "%x  %s\n", h.Sum(nil), a.file())
	}
	return os.WriteFile(filepath.Join(w.Out, sumsName), text, 0o644)
}

package sources

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/formats/tarball"
	"github.com/pantavisor/pantavisor/internal/decompress"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/kernel"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/targets"
)

// fileSource takes a kernel from a named part: what no package has, as a vendor's kernel.
type fileSource struct{ kernel *targets.Kernel }

var _ Source = (*fileSource)(nil)

// Requests lists nothing.
func (s *fileSource) Requests() []debian.Request { return nil }

// HostRequests lists nothing: no program runs.
func (s *fileSource) HostRequests(string) []debian.Request { return nil }

// Tree unpacks the part.
func (s *fileSource) Tree(k Kit) (build.Step, error) {
	step, file, err := k.Part(s.kernel.Part)
	return &ArchiveTree{File: file, Part: step}, err
}

// Firmware returns nothing: package targets does not allow it.
func (s *fileSource) Firmware(Kit) ([]build.Step, error) { return nil, nil }

// ArchiveTree is the step that unpacks a kernel from a tarball as the kernel's own "make
// targz-pkg" or tarxz-pkg writes it (Linux: scripts/package/buildtar), and indexes its
// modules. Its output is a tree as package kernel describes it.
type ArchiveTree struct {
	// File is the path of the tarball in the output of Part. It may be compressed.
	File string
	Part build.Step `json:"-"`
}

var _ build.Step = (*ArchiveTree)(nil)

// Name is "kernel/archive".
func (t *ArchiveTree) Name() string { return "kernel/archive" }

// Deps is the part.
func (t *ArchiveTree) Deps() []build.Step { return []build.Step{t.Part} }

// Supplies is the kernel in the tarball, whoever built it.
func (t *ArchiveTree) Supplies(in func(build.Step) string) ([]sbom.Supply, error) {
	return Built(in(t))
}

// Built describes, for bills of materials, the kernel in a tree as package kernel describes it, which
// somebody else built.
func Built(tree string) ([]sbom.Supply, error) {
	release, err := kernel.Release(tree)
	return compiledOf([]sbom.Supply{{Package: sbom.Package{Name: "linux", Version: release}, Tree: true}}, err)
}

// maxKernel bounds what a tarball may unpack to, in bytes.
const maxKernel = 4 << 30

// Run unpacks and indexes.
func (t *ArchiveTree) Run(ctx context.Context, w *build.Work) error {
	f, err := os.Open(filepath.Join(w.In(t.Part), filepath.FromSlash(t.File)))
	if err != nil {
		return fault.Wrap(fault.IO, err, "unpacking the kernel")
	}
	defer f.Close()
	in, err := decompress.Reader(bufio.NewReader(f))
	if err != nil {
		return fault.Wrap(fault.BadInput, err, "unpacking the kernel")
	}
	defer in.Close()
	if err := unpack(ctx, w.Out, tarball.NewReader(io.LimitReader(in, maxKernel))); err != nil {
		return fault.Wrap(fault.BadInput, err, "unpacking the kernel")
	}
	if err := dropELF(w.Out); err != nil {
		return fault.Wrap(fault.IO, err, "unpacking the kernel")
	}
	return fault.Wrap(fault.BadInput, kernel.IndexTree(w.Out), `unpacking the kernel: want a tarball as the kernel's "make tarxz-pkg" writes it`)
}

// unpack writes the regular files that belong to a kernel.
func unpack(ctx context.Context, dir string, in *tarball.Reader) error {
	for {
		e, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		name := archived(e.Name)
		if !e.Mode.IsRegular() || name == "" {
			continue
		}
		if err := writeMember(filepath.Join(dir, filepath.FromSlash(name)), in); err != nil {
			return err
		}
	}
}

func writeMember(to string, from io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(f, from); err != nil {
		return err
	}
	epoch := time.Unix(build.Epoch, 0)
	return errors.Join(f.Close(), os.Chtimes(to, epoch, epoch))
}

// archived returns the output path of a member of the tarball, "" for one that is left out.
// Device trees are below boot/dtbs/RELEASE or dtbs/RELEASE.
func archived(member string) string {
	name := path.Clean(strings.TrimPrefix(member, "./"))
	if !fs.ValidPath(name) {
		return ""
	}
	name = placed(name)
	if rest, ok := strings.CutPrefix(strings.TrimPrefix(name, "boot/"), "dtbs/"); ok {
		_, tree, found := strings.Cut(rest, "/")
		if !found {
			return ""
		}
		return "dtbs/" + tree
	}
	base := path.Base(name)
	switch {
	case strings.HasPrefix(name, "lib/modules/") && base != "build" && base != "source":
		return name
	case path.Dir(name) == "boot" && (strings.HasPrefix(base, "vmlinu") || strings.HasPrefix(base, "config-")):
		return name
	}
	return ""
}

// dropELF removes the kernel with its symbols where there is one that boots beside it.
func dropELF(dir string) error {
	boots, err := filepath.Glob(filepath.Join(dir, "boot/vmlinuz-*"))
	if err != nil || len(boots) == 0 {
		return err
	}
	elf, err := filepath.Glob(filepath.Join(dir, "boot/vmlinux-*"))
	for _, file := range elf {
		err = errors.Join(err, os.Remove(file))
	}
	return err
}

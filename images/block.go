package images

import (
	"bufio"
	"context"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/cpio"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Where the initrd's two large residents live. Everything else is in the blocks
// before, between and behind them, so that the whole archive is sorted.
const (
	modulesDir  = "lib/modules"
	runtimeFile = "usr/bin/pantavisor"
)

// inodes gives every block of the initrd its own range of inode numbers, so that
// a block does not change with the one before.
const inodes = 1 << 20

// The blocks in their order.
const (
	headBlock = iota
	modulesBlock
	middleBlock
	runtimeBlock
	tailBlock
	blocks
)

var blockFiles = [blocks]string{"head.xz", "modules.xz", "middle.xz", "runtime.xz", "tail.xz"}

// block says how a part of the initrd is written.
type block struct {
	which int
	x86   bool // the branch filter
	epoch build.Stamp
}

// write archives entries and compresses them to the output.
func (b block) write(ctx context.Context, w *build.Work, t Tools, entries []cpio.Entry) error {
	raw := filepath.Join(w.Tmp, "block.cpio")
	o := cpio.Options{ModTime: b.epoch.Seconds(), FirstInode: uint32(b.which*inodes + 1)}
	if err := writeArchive(raw, entries, o, b.which == tailBlock); err != nil {
		return err
	}
	defer os.Remove(raw)
	return compress(ctx, w, t, raw, filepath.Join(w.Out, blockFiles[b.which]), b.x86)
}

func writeArchive(name string, entries []cpio.Entry, o cpio.Options, last bool) error {
	f, err := os.Create(name)
	if err != nil {
		return fault.Wrap(fault.IO, err, "writing an archive")
	}
	defer f.Close()
	b := bufio.NewWriterSize(f, 64<<10)
	if err := cpio.Write(b, entries, o); err != nil {
		return fault.Wrap(fault.BadInput, err, "writing an archive")
	}
	if last {
		if err := cpio.WriteTrailer(b); err != nil {
			return fault.Wrap(fault.IO, err, "writing an archive")
		}
	}
	if err := b.Flush(); err != nil {
		return fault.Wrap(fault.IO, err, "writing an archive")
	}
	return fault.Wrap(fault.IO, f.Close(), "writing an archive")
}

// ModulesBlock is the step that packs the early modules with their index for
// the initrd.
type ModulesBlock struct {
	// X86 turns the branch filter on.
	X86 bool
	// Epoch is the time of all files.
	Epoch build.Stamp
	// Early is the step whose output has the tree lib/modules/RELEASE; Tools
	// brings xz.
	Early build.Step `json:"-"`
	Tools Tools      `json:"-"`
}

var _ build.Step = (*ModulesBlock)(nil)

// Name of the step.
func (s *ModulesBlock) Name() string { return "initrd/modules" }

// Deps are the modules and the tools.
func (s *ModulesBlock) Deps() []build.Step { return []build.Step{s.Early, s.Tools} }

// Run packs the tree.
func (s *ModulesBlock) Run(ctx context.Context, w *build.Work) error {
	entries, err := treeEntries(filepath.Join(w.In(s.Early), modulesDir), modulesDir)
	if err != nil {
		return fault.Wrap(fault.IO, err, "collecting the early modules")
	}
	return block{modulesBlock, s.X86, s.Epoch}.write(ctx, w, s.Tools, entries)
}

// RuntimeBlock is the step that packs the device binary for the initrd.
type RuntimeBlock struct {
	// X86 turns the branch filter on.
	X86 bool
	// Epoch is the time of all files.
	Epoch build.Stamp
	// Program is the device binary; Tools brings xz.
	Program Artefact `json:"-"`
	Tools   Tools    `json:"-"`
}

var _ build.Step = (*RuntimeBlock)(nil)

// Name of the step.
func (s *RuntimeBlock) Name() string { return "initrd/runtime" }

// Deps are the program and the tools.
func (s *RuntimeBlock) Deps() []build.Step { return []build.Step{s.Program.Step, s.Tools} }

// Run packs the program.
func (s *RuntimeBlock) Run(ctx context.Context, w *build.Work) error {
	entry, err := fileEntry(s.Program.in(w), runtimeFile)
	if err != nil {
		return err
	}
	return block{runtimeBlock, s.X86, s.Epoch}.write(ctx, w, s.Tools, []cpio.Entry{entry})
}

// fileEntry is a regular file or link of this machine as an archive entry.
// Permissions are normalised: what its owner may execute is 0755, else 0644.
func fileEntry(file, name string) (cpio.Entry, error) {
	info, err := os.Lstat(file)
	if err != nil {
		return cpio.Entry{}, fault.Wrap(fault.IO, err, "archiving %s", name)
	}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		to, err := os.Readlink(file)
		return cpio.Symlink(name, to), fault.Wrap(fault.IO, err, "archiving %s", name)
	case !info.Mode().IsRegular():
		return cpio.Entry{}, fault.New(fault.BadInput, "archiving %s: %s is neither file nor link", name, file)
	}
	mode := uint32(cpio.TypeRegular | 0o644)
	if info.Mode()&0o100 != 0 {
		mode |= 0o111
	}
	open := func() (io.ReadCloser, error) { return os.Open(file) }
	return cpio.Entry{Name: name, Mode: mode, Size: info.Size(), Open: open}, nil
}

// treeEntries is a folder of this machine, itself called name, as archive
// entries.
func treeEntries(dir, name string) ([]cpio.Entry, error) {
	var out []cpio.Entry
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		at := path.Join(name, filepath.ToSlash(rel))
		if d.IsDir() {
			if at != "." {
				out = append(out, cpio.Dir(at, 0o755))
			}
			return nil
		}
		e, err := fileEntry(p, at)
		out = append(out, e)
		return err
	})
	return out, err
}

// below tells whether a name is the folder or in it.
func below(name, dir string) bool { return name == dir || strings.HasPrefix(name, dir+"/") }

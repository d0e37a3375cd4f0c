package images

import (
	"bufio"
	"context"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/cpio"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// The paths of the two large contents of the initrd. Everything else is in the blocks
// before, between and after them, so that the whole archive is sorted.
const (
	modulesDir  = "lib/modules"
	runtimeFile = "usr/bin/pantavisor"
)

// inodes is the size of a block's range of inode numbers: with its own range, a block
// does not change when the one before it does.
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

// block is how a part of the initrd is written.
type block struct {
	which int
	holds content
	epoch build.Stamp
}

// write archives entries and compresses them to the output.
func (b block) write(ctx context.Context, w *build.Work, entries []tree.Entry) error {
	if len(entries) > inodes {
		return fault.New(fault.Unsupported, "archiving %s: %d entries; a part of the initrd holds %d", blockFiles[b.which], len(entries), inodes)
	}
	raw := filepath.Join(w.Tmp, "block.cpio")
	o := cpio.Options{FirstInode: uint32(b.which*inodes + 1)}
	if err := writeArchive(raw, b.epoch, entries, o, b.which == tailBlock); err != nil {
		return err
	}
	defer os.Remove(raw)
	return compress(ctx, raw, filepath.Join(w.Out, blockFiles[b.which]), b.holds)
}

// writeArchive writes entries with owner root and the time at.
func writeArchive(name string, at build.Stamp, entries []tree.Entry, o cpio.Options, last bool) error {
	f, err := os.Create(name)
	if err != nil {
		return fault.Wrap(fault.IO, err, "writing an archive")
	}
	defer f.Close()
	b := bufio.NewWriterSize(f, 64<<10)
	normal := tree.Normal{AllRoot: true, Time: at.Time()}
	if err := cpio.Write(b, normal.All(entries), o); err != nil {
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

// ModulesBlock is the step that packs the early modules and their index for the initrd.
type ModulesBlock struct {
	// X86 turns the branch filter on.
	X86 bool
	// Epoch is the time of all files.
	Epoch build.Stamp
	// Early is the step whose output has the tree lib/modules/RELEASE.
	Early build.Step `json:"-"`
}

var (
	_ build.Step      = (*ModulesBlock)(nil)
	_ build.Large     = (*ModulesBlock)(nil)
	_ build.Versioned = (*ModulesBlock)(nil)
)

// Name of the step.
func (s *ModulesBlock) Name() string { return "initrd/modules" }

// Version of the step's logic.
func (s *ModulesBlock) Version() int { return 1 }

// Memory is that for compression.
func (*ModulesBlock) Memory() int64 { return compressing }

// Deps are the modules.
func (s *ModulesBlock) Deps() []build.Step { return []build.Step{s.Early} }

// Run packs the tree.
func (s *ModulesBlock) Run(ctx context.Context, w *build.Work) error {
	entries, err := collect(ctx, filepath.Join(w.In(s.Early), modulesDir), modulesDir)
	if err != nil {
		return fault.Wrap(fault.IO, err, "collecting the early modules")
	}
	return block{modulesBlock, codeFor(s.X86), s.Epoch}.write(ctx, w, entries)
}

// RuntimeBlock is the step that packs the device binary for the initrd.
type RuntimeBlock struct {
	// X86 turns the branch filter on.
	X86 bool
	// Epoch is the time of all files.
	Epoch build.Stamp
	// Program is the device binary.
	Program Artefact `json:"-"`
}

var (
	_ build.Step      = (*RuntimeBlock)(nil)
	_ build.Large     = (*RuntimeBlock)(nil)
	_ build.Versioned = (*RuntimeBlock)(nil)
)

// Name of the step.
func (s *RuntimeBlock) Name() string { return "initrd/runtime" }

// Version of the step's logic.
func (s *RuntimeBlock) Version() int { return 1 }

// Memory is that for compression.
func (*RuntimeBlock) Memory() int64 { return compressing }

// Deps are the program.
func (s *RuntimeBlock) Deps() []build.Step { return []build.Step{s.Program.Step} }

// Run packs the program.
func (s *RuntimeBlock) Run(ctx context.Context, w *build.Work) error {
	entry, err := fileEntry(s.Program.in(w), runtimeFile)
	if err != nil {
		return err
	}
	return block{runtimeBlock, codeFor(s.X86), s.Epoch}.write(ctx, w, []tree.Entry{entry})
}

// portable selects what images keep of the attributes of this machine's files.
var portable = tree.Normal{AllRoot: true, Portable: true}

// kinds limits the kinds of files that images take from this machine.
var kinds = tree.Limits{Format: "an image", Symlinks: true}

// fileEntry returns a regular file or link of this machine as an entry.
func fileEntry(file, name string) (tree.Entry, error) {
	e, err := tree.File(file, name)
	if err != nil {
		return e, fault.Wrap(fault.IO, err, "archiving %s", name)
	}
	if e.Mode.IsDir() {
		return e, fault.New(fault.BadInput, "archiving %s: %s is a directory", name, file)
	}
	e = portable.Apply(e)
	return e, fault.Wrap(fault.BadInput, kinds.Check(&e), "archiving %s", file)
}

// collect returns a directory of this machine, renamed to name, as entries.
func collect(ctx context.Context, dir, name string) ([]tree.Entry, error) {
	var out []tree.Entry
	err := tree.Walk(ctx, dir, tree.Options{Normal: portable}, func(e tree.Entry) error {
		if err := kinds.Check(&e); err != nil {
			return fault.Wrap(fault.BadInput, err, "archiving")
		}
		e.Name = path.Join(name, e.Name)
		if e.Name != "." {
			out = append(out, e)
		}
		return nil
	})
	return out, err
}

// below reports whether a name is the directory or in it.
func below(name, dir string) bool { return name == dir || strings.HasPrefix(name, dir+"/") }

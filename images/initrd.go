package images

import (
	"context"
	"io"
	"os"
	"path/filepath"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/xz4"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// baseInitrd is the file in the output of an [Initrd].
const baseInitrd = "0base.cpio.xz4"

// Initrd is the step that joins the compressed blocks to the base initrd: one newc
// archive in one xz stream, padded to four bytes, so that addons can be appended to it.
type Initrd struct {
	Files   *FilesBlock   `json:"-"`
	Modules *ModulesBlock `json:"-"` // nil for a kernel that needs none
	Runtime *RuntimeBlock `json:"-"`
}

var (
	_ build.Step      = (*Initrd)(nil)
	_ build.Versioned = (*Initrd)(nil)
	_ named           = (*Initrd)(nil)
)

// Name of the step.
func (s *Initrd) Name() string { return "initrd/base" }

// Version of the step's logic.
func (s *Initrd) Version() int { return 1 }

// Deps are the blocks.
func (s *Initrd) Deps() []build.Step {
	if s.Modules == nil {
		return []build.Step{s.Files, s.Runtime}
	}
	return []build.Step{s.Files, s.Runtime, s.Modules}
}

// names lists the files of configuration in the initrd; addons must not have others of it.
func (s *Initrd) names(ctx context.Context, in func(build.Step) string) ([]string, error) {
	return s.Files.names(ctx, in)
}

// Run joins the blocks in the order of the archive.
func (s *Initrd) Run(_ context.Context, w *build.Work) error {
	from := map[int]string{modulesBlock: "", runtimeBlock: w.In(s.Runtime)}
	if s.Modules != nil {
		from[modulesBlock] = w.In(s.Modules)
	}
	var parts []string
	for i, name := range blockFiles {
		dir, own := from[i]
		if !own {
			dir = w.In(s.Files)
		}
		if dir != "" {
			parts = append(parts, filepath.Join(dir, name))
		}
	}
	for _, p := range parts {
		info, err := os.Stat(p)
		if err != nil {
			return fault.Wrap(fault.Internal, err, "joining the initrd")
		}
		w.Contains(filepath.Base(p), info.Size())
	}
	return joinBlocks(filepath.Join(w.Out, baseInitrd), parts)
}

// joinBlocks joins xz streams into one xz4 file.
func joinBlocks(dst string, parts []string) error {
	var inputs []xz4.Input
	for _, p := range parts {
		f, err := os.Open(p)
		if err != nil {
			return fault.Wrap(fault.IO, err, "joining the initrd")
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return fault.Wrap(fault.IO, err, "joining the initrd")
		}
		inputs = append(inputs, xz4.Input{ReaderAt: f, Size: info.Size()})
	}
	out, err := os.Create(dst)
	if err != nil {
		return fault.Wrap(fault.IO, err, "joining the initrd")
	}
	defer out.Close()
	if err := xz4.Join(out, inputs...); err != nil {
		return fault.Wrap(fault.IO, err, "joining the initrd")
	}
	size, err := out.Seek(0, io.SeekCurrent)
	if err != nil {
		return fault.Wrap(fault.IO, err, "joining the initrd")
	}
	if _, err := out.Write(make([]byte, xz4.Pad(size))); err != nil {
		return fault.Wrap(fault.IO, err, "padding the initrd")
	}
	return fault.Wrap(fault.IO, out.Close(), "joining the initrd")
}

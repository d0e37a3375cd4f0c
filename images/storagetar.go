package images

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/tarball"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/command"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// tarFile is the file in the output of a [StorageTar] and a [FilesTar].
const tarFile = "files.tar.xz"

// xzPreset is a fast one: kernels, modules and containers are compressed already.
const xzPreset = "-0"

// StorageTar is the step that packs the storage with revision 0 as an archive, for whoever
// makes the file system: a vendor's tool.
type StorageTar struct {
	// Epoch is the time of all files.
	Epoch build.Stamp
	// Storage is the step whose output has the storage tree in the directory [StorageDir].
	Storage build.Step `json:"-"`
	// Tools provides xz.
	Tools Tools `json:"-"`
}

var _ build.Step = (*StorageTar)(nil)

// Name of the step.
func (s *StorageTar) Name() string { return "tar/storage" }

// Deps are the storage and the tools.
func (s *StorageTar) Deps() []build.Step { return []build.Step{s.Storage, s.Tools} }

// Run writes the archive.
func (s *StorageTar) Run(ctx context.Context, w *build.Work) error {
	normal := tree.Normal{AllRoot: true, Time: s.Epoch.Time()}
	return packTar(ctx, w, s.Tools, func(out *tarball.Writer) error {
		return walkStorage(ctx, filepath.Join(w.In(s.Storage), StorageDir), func(e tree.Entry) error {
			if e.Name == "." {
				return nil
			}
			return out.Add(normal.Apply(e))
		})
	})
}

// FilesTar is the step that packs the files of a partition that firmware reads.
type FilesTar struct {
	// Role is that of the partition.
	Role string
	// Epoch is the time of all files.
	Epoch build.Stamp
	// Files are the trees of partitions, by role; Tools provides xz.
	Files []RoleFiles `json:"-"`
	Tools Tools       `json:"-"`
}

var _ build.Step = (*FilesTar)(nil)

// Name of the step.
func (s *FilesTar) Name() string { return "tar/" + s.Role }

// Deps are the trees and the tools.
func (s *FilesTar) Deps() []build.Step {
	var out []build.Step
	for _, f := range s.Files {
		out = append(out, f.Tree.Step)
	}
	return append(out, s.Tools)
}

// Run writes the archive.
func (s *FilesTar) Run(ctx context.Context, w *build.Work) error {
	entries, err := roleEntries(ctx, w, s.Files, s.Role)
	if err != nil {
		return fault.Wrap(fault.IO, err, "collecting the files for %s", s.Role)
	}
	normal := tree.Normal{AllRoot: true, Time: s.Epoch.Time()}
	return packTar(ctx, w, s.Tools, func(out *tarball.Writer) error {
		for _, e := range normal.All(entries) {
			if err := out.Add(e); err != nil {
				return err
			}
		}
		return nil
	})
}

// packTar writes the archive that fill makes, compressed with one thread: the number of
// threads changes the bytes.
func packTar(ctx context.Context, w *build.Work, t Tools, fill func(*tarball.Writer) error) error {
	out, err := os.Create(filepath.Join(w.Out, tarFile))
	if err != nil {
		return fault.Wrap(fault.IO, err, "packing the files")
	}
	defer out.Close()
	cmd, err := t.Command(ctx, w, w.Tmp, "xz", "--format=xz", "--threads=1", xzPreset, "--stdout")
	if err != nil {
		return err
	}
	r, pipe := io.Pipe()
	cmd.Stdin, cmd.Stdout = r, out
	filled := make(chan error, 1)
	go func() {
		archive := tarball.NewWriter(pipe)
		err := fill(archive)
		if err == nil {
			err = archive.Close()
		}
		_ = pipe.CloseWithError(err) // never fails
		filled <- err
	}()
	run := command.Run(ctx, cmd, "xz")
	_ = r.Close() // ends fill when xz has ended before it
	if err := errors.Join(<-filled, run); err != nil {
		return fault.Wrap(fault.IO, err, "packing the files")
	}
	return fault.Wrap(fault.IO, out.Close(), "packing the files")
}

// rootfs makes the archive of the storage.
func (c *composer) rootfs() ([]build.Artefact, error) {
	step := &StorageTar{Epoch: c.in.Epoch, Storage: c.trail(), Tools: c.in.Tools}
	return []build.Artefact{{Step: step, From: tarFile, To: c.in.Target + ".rootfs.tar.xz"}}, nil
}

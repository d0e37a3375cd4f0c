package images

import (
	"context"
	"io"
	"os"
	"path/filepath"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/tarball"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/formats/xzenc"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// tarFile is the file in the output of a [StorageTar] and a [FilesTar].
const tarFile = "files.tar.xz"

// StorageTar is the step that packs the storage with revision 0 as an archive, for whoever
// makes the file system: a vendor's tool.
type StorageTar struct {
	// Epoch is the time of all files.
	Epoch build.Stamp
	// Storage is the step whose output has the storage tree in the directory [StorageDir].
	Storage build.Step `json:"-"`
}

var (
	_ build.Step     = (*StorageTar)(nil)
	_ build.Weighted = (*StorageTar)(nil)
)

// Name of the step.
func (s *StorageTar) Name() string { return "tar/storage" }

// Deps are the storage.
func (s *StorageTar) Deps() []build.Step { return []build.Step{s.Storage} }

// Cores implements build.Weighted: it uses all cores.
func (s *StorageTar) Cores() int { return 0 }

// Run writes the archive.
func (s *StorageTar) Run(ctx context.Context, w *build.Work) error {
	normal := tree.Normal{AllRoot: true, Time: s.Epoch.Time()}
	return packTar(ctx, w, func(out *tarball.Writer) error {
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
	// Files are the trees of partitions, by role.
	Files []RoleFiles `json:"-"`
}

var _ build.Step = (*FilesTar)(nil)

// Name of the step.
func (s *FilesTar) Name() string { return "tar/" + s.Role }

// Deps are the trees.
func (s *FilesTar) Deps() []build.Step {
	var out []build.Step
	for _, f := range s.Files {
		out = append(out, f.Tree.Step)
	}
	return out
}

// Run writes the archive.
func (s *FilesTar) Run(ctx context.Context, w *build.Work) error {
	entries, err := roleEntries(ctx, w, s.Files, s.Role)
	if err != nil {
		return fault.Wrap(fault.IO, err, "collecting the files for %s", s.Role)
	}
	normal := tree.Normal{AllRoot: true, Time: s.Epoch.Time()}
	return packTar(ctx, w, func(out *tarball.Writer) error {
		for _, e := range normal.All(entries) {
			if err := out.Add(e); err != nil {
				return err
			}
		}
		return nil
	})
}

// packTar writes the archive that fill makes. Kernels, modules and containers are compressed
// already, so it is compressed fast.
func packTar(ctx context.Context, w *build.Work, fill func(*tarball.Writer) error) (err error) {
	defer func() { err = fault.Wrap(fault.IO, err, "packing the files") }()
	out, err := os.Create(filepath.Join(w.Out, tarFile))
	if err != nil {
		return err
	}
	defer out.Close()
	xz, err := xzenc.NewWriter(ctx, out, xzenc.Options{Check: xzenc.CRC64})
	if err != nil {
		return err
	}
	archive := tarball.NewWriter(xz)
	if err := fill(archive); err != nil {
		return err
	}
	for _, c := range []io.Closer{archive, xz, out} {
		if err := c.Close(); err != nil {
			return err
		}
	}
	return nil
}

// rootfs makes the archive of the storage.
func (c *composer) rootfs() ([]build.Artefact, error) {
	step := &StorageTar{Epoch: c.in.Epoch, Storage: c.trail()}
	return []build.Artefact{{Step: step, From: tarFile, To: c.in.Target + ".rootfs.tar.xz"}}, nil
}

package images

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/tarball"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/ctxio"
	"github.com/pantavisor/pantavisor/internal/decompress"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Tezi is a bundle for the Toradex Easy Installer: an archive to unpack on an SD card or a
// USB stick, on which the installer finds an image.json for each kind of modules.
type Tezi struct {
	// Name is what the installer shows.
	Name string `json:"name"`
	// Modules are what it can be installed on.
	Modules []TeziModule `json:"modules"`
}

// TeziModule is a kind of modules.
type TeziModule struct {
	// Name is that in image-NAME.json and uEnv.NAME.txt.
	Name string `json:"name"`
	// Products are Toradex's product numbers.
	Products []string `json:"products"`
	// NAND is set for raw flash with UBI, where the storage is in a Volume.
	NAND   bool   `json:"nand,omitempty"`
	Volume string `json:"volume,omitempty"`
	// Blobs are the stages of the boot loader.
	Blobs []TeziBlob `json:"blobs,omitempty"`
	// Environment are lines of uEnv.NAME.txt.
	Environment []string `json:"environment,omitempty"`
}

// TeziBlob is a stage of the boot loader.
type TeziBlob struct {
	Name string   `json:"name"`
	File Artefact `json:"file"`
	// Partition is that of the raw flash. Sector is the place in the boot area of the eMMC.
	Partition string `json:"partition,omitempty"`
	Sector    int64  `json:"sector,omitempty"`
}

// file is the blob's name in the bundle.
func (b TeziBlob) file(m TeziModule) string { return m.Name + "." + path.Base(b.File.File) }

// teziFile is the file in the output of a [TeziBundle].
const teziFile = "tezi.tar"

// Names of the archives in a bundle.
const (
	teziBoot = "boot.tar.xz"
	teziRoot = "root.tar.xz"
)

func (c *composer) tezi() ([]build.Artefact, error) {
	in := c.in
	step := &TeziBundle{
		Target: in.Target, Release: in.Release, Epoch: in.Epoch, Tezi: *in.Tezi, Partitions: in.Layouts[0].Partitions,
		Root: &StorageTar{Epoch: in.Epoch, Storage: c.trail()},
		Boot: &FilesTar{Role: "boot", Epoch: in.Epoch, Files: in.Loader.Files},
	}
	return []build.Artefact{{Step: step, From: teziFile, To: in.Target + "-tezi.tar"}}, nil
}

// TeziBundle is the step that packs a bundle.
type TeziBundle struct {
	// Target is the name of the target, Release the version of the firmware; it may be empty.
	Target, Release string
	// Epoch is the time of all files, and the date of release.
	Epoch build.Stamp
	Tezi  Tezi
	// Partitions are those of the medium.
	Partitions []Partition
	Root       *StorageTar `json:"-"`
	Boot       *FilesTar   `json:"-"`
}

var _ build.Step = (*TeziBundle)(nil)

// Name of the step.
func (s *TeziBundle) Name() string { return "tezi/bundle" }

// Deps are the archives and the blobs.
func (s *TeziBundle) Deps() []build.Step {
	out := []build.Step{s.Root, s.Boot}
	for _, m := range s.Tezi.Modules {
		for _, b := range m.Blobs {
			out = append(out, b.File.Step)
		}
	}
	return out
}

// Run writes the bundle. Its members are compressed already.
func (s *TeziBundle) Run(ctx context.Context, w *build.Work) error {
	files, err := s.files(ctx, w)
	if err != nil {
		return err
	}
	out, err := os.Create(filepath.Join(w.Out, teziFile))
	if err != nil {
		return fault.Wrap(fault.IO, err, "packing the bundle")
	}
	defer out.Close()
	archive, normal := tarball.NewWriter(out), tree.Normal{AllRoot: true, Time: s.Epoch.Time()}
	for _, e := range files.Sorted() {
		if err := archive.Add(normal.Apply(e)); err != nil {
			return fault.Wrap(fault.IO, err, "packing the bundle")
		}
		w.Contains(e.Name, e.Size)
	}
	if err := archive.Close(); err != nil {
		return fault.Wrap(fault.IO, err, "packing the bundle")
	}
	return fault.Wrap(fault.IO, out.Close(), "packing the bundle")
}

// files returns the members of the bundle, below one directory.
func (s *TeziBundle) files(ctx context.Context, w *build.Work) (tree.Set, error) {
	dir := s.Target + "-tezi"
	all := tree.Set{dir: tree.Dir(dir, 0o755)}
	put := func(e tree.Entry) { all[e.Name] = e }
	sizes := map[string]float64{}
	for name, from := range map[string]string{teziRoot: filepath.Join(w.In(s.Root), tarFile), teziBoot: filepath.Join(w.In(s.Boot), tarFile)} {
		e, err := fileEntry(from, path.Join(dir, name))
		if err != nil {
			return nil, err
		}
		put(e)
		if sizes[name], err = unpacked(ctx, from); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "reading %s", name)
		}
	}
	for _, m := range s.Tezi.Modules {
		for _, b := range m.Blobs {
			e, err := fileEntry(b.File.in(w), path.Join(dir, b.file(m)))
			if err != nil {
				return nil, err
			}
			put(e)
			sizes[b.file(m)] = float64(e.Size) / mib
		}
		text, err := json.MarshalIndent(s.describe(m, sizes), "", "  ")
		if err != nil {
			return nil, fault.Wrap(fault.Internal, err, "describing the image for %s", m.Name)
		}
		put(tree.Bytes(path.Join(dir, "image-"+m.Name+".json"), 0o644, append(text, '\n')))
		put(tree.Bytes(path.Join(dir, m.environment()), 0o644, []byte(strings.Join(m.Environment, "\n")+"\n")))
	}
	return all, nil
}

// environment is the name of the file with U-Boot's variables.
func (m TeziModule) environment() string { return "uEnv." + m.Name + ".txt" }

// unpacked returns the size of what is in an archive, in MiB.
func unpacked(ctx context.Context, file string) (float64, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	r, err := decompress.Reader(f)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	n, err := io.Copy(io.Discard, ctxio.Reader(ctx, r))
	return float64(n) / mib, err
}

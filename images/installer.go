package images

import (
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"slices"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/cpio"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/images/media"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/kernel"
)

// Installer is a medium that installs the first image on a disk of the machine that is
// booted from it.
type Installer struct {
	// File is the name of the output.
	File string `json:"file"`
	// Size of the medium in MiB.
	Size int `json:"size"`
	// Program is process 1, statically linked.
	Program Artefact `json:"program"`
	// Files are the boot loader's for the boot partition: it starts [InstallerKernel] with
	// [InstallerInitrd] of that partition. Blobs are outside of partitions.
	Files Artefact `json:"files"`
	Blobs []Blob   `json:"blobs,omitempty"`
}

// Files on the partition of an installation medium, besides the loader's and the image.
const (
	InstallerKernel = "kernel"
	InstallerInitrd = "initrd"
)

// installerModules are what process 1 of the medium needs besides the early modules: the
// file system of the medium, and keyboards on USB.
var installerModules = []string{"vfat", "nls_cp437", "usbhid", "hid_generic"}

// installer makes the image, compressed for a fast decompressor, and the medium.
func (c *composer) installer() ([]build.Artefact, error) {
	in := c.in
	made, err := c.image()
	if err != nil {
		return nil, err
	}
	disk, name := made[0].Step, made[0].To
	packed := &media.Compressed{Form: "zst", Image: media.File{Step: disk, Path: DiskFile}}
	early := &kernel.Early{Use: "installer", Modules: slices.Concat(in.Kernel.EarlyModules, installerModules), Tree: in.Kernel.Tree.Step}
	medium := &InstallerMedium{
		Target: in.Target, Epoch: in.Epoch, Image: name,
		Layout: Layout{Size: in.Installer.Size, Table: in.Layouts[0].Table, Blobs: in.Installer.Blobs, Partitions: []Partition{
			{Name: "pvinstall", Role: "boot", Format: "fat32"},
		}},
		Kernel: in.Kernel.Image, Files: in.Installer.Files, Disk: disk, Packed: packed,
		Initrd: &InstallerRoot{Epoch: in.Epoch, X86: in.X86, Program: in.Installer.Program, Early: early},
	}
	file := in.Installer.File
	return []build.Artefact{{Step: medium, From: DiskFile, To: file}, {Step: medium, From: BmapFile, To: file + ".bmap"}}, nil
}

// InstallerRoot is the step that makes the initrd of an installation medium.
type InstallerRoot struct {
	// Epoch is the time of all files.
	Epoch build.Stamp
	// X86 turns the branch filter on.
	X86 bool
	// Program is process 1, Early the step whose output has the tree lib/modules/RELEASE.
	Program Artefact   `json:"-"`
	Early   build.Step `json:"-"`
}

var (
	_ build.Step      = (*InstallerRoot)(nil)
	_ build.Large     = (*InstallerRoot)(nil)
	_ build.Versioned = (*InstallerRoot)(nil)
)

// Name of the step.
func (s *InstallerRoot) Name() string { return "installer/initrd" }

// Version of the step's logic.
func (s *InstallerRoot) Version() int { return 1 }

// Memory is that for compression.
func (*InstallerRoot) Memory() int64 { return compressing }

// Deps are the program and the modules.
func (s *InstallerRoot) Deps() []build.Step { return []build.Step{s.Program.Step, s.Early} }

// Run writes the archive.
func (s *InstallerRoot) Run(ctx context.Context, w *build.Work) error {
	program, err := fileEntry(s.Program.in(w), "init")
	if err != nil {
		return err
	}
	entries, err := collect(ctx, filepath.Join(w.In(s.Early), modulesDir), modulesDir)
	if err != nil {
		return fault.Wrap(fault.IO, err, "collecting the early modules")
	}
	all := tree.Set{program.Name: program}
	for _, e := range entries {
		all[e.Name] = e
	}
	for _, dir := range []string{"dev", "proc", "sys", "lib", "medium"} {
		all[dir] = tree.Dir(dir, 0o755)
	}
	raw := filepath.Join(w.Tmp, "initrd.cpio")
	if err := writeArchive(raw, s.Epoch, all.Sorted(), cpio.Options{FirstInode: 1}, true); err != nil {
		return err
	}
	return compress(ctx, raw, filepath.Join(w.Out, InstallerInitrd), codeFor(s.X86))
}

// InstallerMedium is the step that composes the installation medium, sparse, and its block
// map. On its one partition are the boot loader's files, the kernel, the initrd, and the
// image with its block map.
type InstallerMedium struct {
	// Target is the name of the target.
	Target string
	// Image is the name of the image's file.
	Image string
	// Layout is that of the medium.
	Layout Layout
	// Epoch is the time of all files and file systems.
	Epoch build.Stamp

	Kernel Artefact          `json:"-"`
	Initrd *InstallerRoot    `json:"-"`
	Files  Artefact          `json:"-"` // the boot loader's
	Disk   build.Step        `json:"-"` // the image with its block map
	Packed *media.Compressed `json:"-"`
}

var _ build.Step = (*InstallerMedium)(nil)

// Name of the step.
func (s *InstallerMedium) Name() string { return "installer/medium" }

// Deps are all that is on the medium.
func (s *InstallerMedium) Deps() []build.Step {
	out := []build.Step{s.Kernel.Step, s.Initrd, s.Files.Step, s.Disk, s.Packed}
	for _, b := range s.Layout.Blobs {
		out = append(out, b.File.Step)
	}
	return out
}

// Run writes the medium.
func (s *InstallerMedium) Run(ctx context.Context, w *build.Work) (err error) {
	c := &composition{work: w, disk: &Disk{
		Target: s.Target, Layout: s.Layout, Epoch: s.Epoch, Files: []RoleFiles{{Role: "boot", Tree: s.Files}},
	}}
	if c.further, err = s.content(w); err != nil {
		return err
	}
	// The map has the checksums of everything in the image.
	content, err := os.ReadFile(filepath.Join(w.In(s.Disk), BmapFile))
	if err != nil {
		return fault.Wrap(fault.Internal, err, "reading the block map of the image")
	}
	sum := sha256.Sum256(content)
	c.id = identify(s.Target+" installer", sum[:])
	if err := c.arrange(); err != nil {
		return err
	}
	c.reportPartitions()
	return c.create(ctx)
}

// content returns the files of the partition besides the loader's.
func (s *InstallerMedium) content(w *build.Work) ([]tree.Entry, error) {
	var out []tree.Entry
	for _, f := range []struct{ name, from string }{
		{InstallerKernel, s.Kernel.in(w)},
		{InstallerInitrd, filepath.Join(w.In(s.Initrd), InstallerInitrd)},
		{s.Image + ".zst", filepath.Join(w.In(s.Packed), media.CompressedFile)},
		{s.Image + ".bmap", filepath.Join(w.In(s.Disk), BmapFile)},
	} {
		e, err := fileEntry(f.from, f.name)
		if err != nil {
			return nil, err
		}
		out = append(out, e)
		w.Contains(f.name, e.Size)
	}
	return out, nil
}

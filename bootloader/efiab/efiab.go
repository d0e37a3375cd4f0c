// Package efiab makes UEFI firmware boot Pantavisor from one of two boot partitions.
//
// On the first partition, the EFI system partition, is a first stage that takes one of the others
// (see package autoboot); it is GRUB, or a program that the target has as
// EFI/BOOT/BOOTX64.EFI. On each of the others is pv-linux.efi: kernel, initrd and command line in one
// program, which can be signed as a whole (see package uki). A target may put a second stage of its own
// beside it, pvboot.efi, which is then started in its place.
//
// The system knows from the variable LoaderDevicePartUUID of the firmware, which the stub in
// pv-linux.efi sets, from which partition it was started.
package efiab

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/bootloader"
	"github.com/pantavisor/pantavisor/bootloader/grub"
	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/formats/autoboot"
	"github.com/pantavisor/pantavisor/formats/uki"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/trail"
	"github.com/pantavisor/pantavisor/targets"
)

// Files of the boot partitions.
const (
	stageFile = "pvboot.efi"
	linuxFile = "pv-linux.efi"
)

// The Debian package with the stub, and the stub's directory and its name for each GOARCH.
const (
	stubPackage = "systemd-boot-efi"
	stubDir     = "usr/lib/systemd/boot/efi/"
)

var stubs = map[string]string{"amd64": "linuxx64.efi.stub", "arm64": "linuxaa64.efi.stub"}

// Loader is the two stages for one target.
type Loader struct{ target *targets.Target }

var _ bootloader.Slotted = (*Loader)(nil)

// New returns the loader for a target.
func New(t *targets.Target) bootloader.Loader { return &Loader{t} }

// Requests lists the packages with GRUB's modules and the stub.
func (l *Loader) Requests() []debian.Request { return bootloader.Packages(l.target) }

// Raw returns nothing: everything is a file.
func (l *Loader) Raw(bootloader.Kit) ([]bootloader.Blob, error) { return nil, nil }

// State returns nothing: the boot partitions say which revision runs.
func (l *Loader) State() build.Step { return nil }

// Slot is the first boot partition.
func (l *Loader) Slot() (role, key, file string) { return "boota", "efiab", "pantavisor-efi.img.gz" }

// Files returns the step with the files of a partition.
func (l *Loader) Files(role string, k bootloader.Kit) (build.Step, error) {
	switch role {
	case "bootsel":
		g := grub.New(l.target).(*grub.Loader)
		return g.Selector(role, autoboot.Choice{Default: l.number("boota"), Try: l.number("bootb")}, []string{stageFile, linuxFile}, k)
	case "boota":
		return l.slot(k)
	}
	return nil, nil
}

// number is that of the partition with a role.
func (l *Loader) number(role string) int {
	return 1 + slices.IndexFunc(l.target.Image().Partitions, func(p targets.Partition) bool { return p.Role == role })
}

// slot returns the step with the files of a boot partition.
func (l *Loader) slot(k bootloader.Kit) (*Slot, error) {
	if k.BSP == nil {
		return nil, fault.New(fault.Unsupported, "making the boot partition: its kernel is not known when the BSP is that of a reference device (PVR_USE_SRC_BSP)")
	}
	stub, ok := stubs[l.target.Arch.Go]
	if !ok {
		return nil, fault.New(fault.Unsupported, "bootloader.type: efiab does not run on %s", l.target.Arch.Go)
	}
	if err := bootloader.CheckArguments(l.target.Kernel.Arguments); err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "writing %s", linuxFile)
	}
	pkg, err := k.Package(stubPackage, stubDir)
	if err != nil {
		return nil, err
	}
	return &Slot{
		Stub: stub, Arguments: append(slices.Clone(l.target.Kernel.Arguments), "rdinit=/init"),
		Package: pkg, Kernel: k.BSP.Kernel, Initrd: k.BSP.Initrd,
	}, nil
}

// Slot is the step that lays out the files of a boot partition.
type Slot struct {
	// Stub is the name of the stub, Arguments are the kernel's.
	Stub      string
	Arguments []string

	Package build.Step        `json:"-"`
	Kernel  bootloader.File   `json:"-"`
	Initrd  []bootloader.File `json:"-"`
}

var (
	_ build.Step      = (*Slot)(nil)
	_ build.Versioned = (*Slot)(nil)
)

// Name is "efiab/slot".
func (s *Slot) Name() string { return "efiab/slot" }

// Version of the step's logic.
func (s *Slot) Version() int { return 1 }

// Deps are the stub, the kernel and the initrd.
func (s *Slot) Deps() []build.Step {
	out := []build.Step{s.Package, s.Kernel.Step}
	for _, f := range s.Initrd {
		out = append(out, f.Step)
	}
	return out
}

// Run writes the tree.
func (s *Slot) Run(_ context.Context, w *build.Work) error {
	if err := bootloader.WriteTree(w.Out, map[string][]byte{autoboot.RevisionFile: []byte(autoboot.Pad(trail.First + "\n"))}); err != nil {
		return err
	}
	return fault.Wrap(fault.IO, s.image(w), "writing %s", linuxFile)
}

// release is what the image says about itself (os-release(5)).
const release = "ID=pantavisor\nNAME=Pantavisor\nPRETTY_NAME=Pantavisor\n"

// image writes pv-linux.efi.
func (s *Slot) image(w *build.Work) (err error) {
	stub, err := os.ReadFile(filepath.Join(w.In(s.Package), filepath.FromSlash(stubDir), s.Stub))
	if err != nil {
		return err
	}
	kernel, err := s.joined(w, s.Kernel)
	if err != nil {
		return err
	}
	defer kernel.close()
	initrd, err := s.joined(w, s.Initrd...)
	if err != nil {
		return err
	}
	defer initrd.close()
	file := filepath.Join(w.Out, linuxFile)
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	err = uki.Write(out, stub, []uki.Section{
		text(".osrel", release), text(".cmdline", strings.Join(s.Arguments, " ")),
		{Name: ".initrd", Data: initrd.all, Size: initrd.size}, {Name: ".linux", Data: kernel.all, Size: kernel.size},
	})
	epoch := time.Unix(build.Epoch, 0)
	return errors.Join(err, out.Close(), os.Chtimes(file, epoch, epoch))
}

// text is a section with a text.
func text(name, s string) uki.Section {
	return uki.Section{Name: name, Data: strings.NewReader(s), Size: int64(len(s))}
}

// joined are files that are read one behind the other.
type joined struct {
	files []*os.File
	all   io.Reader
	size  int64
}

// joined opens files.
func (s *Slot) joined(w *build.Work, files ...bootloader.File) (_ *joined, err error) {
	j := &joined{}
	defer func() {
		if err != nil {
			j.close()
		}
	}()
	var readers []io.Reader
	for _, f := range files {
		in, err := os.Open(filepath.Join(w.In(f.Step), filepath.FromSlash(f.Path)))
		if err != nil {
			return nil, err
		}
		j.files, readers = append(j.files, in), append(readers, in)
		info, err := in.Stat()
		if err != nil {
			return nil, err
		}
		j.size += info.Size()
	}
	j.all = io.MultiReader(readers...)
	return j, nil
}

func (j *joined) close() {
	for _, f := range j.files {
		_ = f.Close() // only read
	}
}

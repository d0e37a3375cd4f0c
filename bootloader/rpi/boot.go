package rpi

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/pantavisor/pantavisor/bootloader"
	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/filecopy"
)

// Boot is the step that lays out the files of one partition.
type Boot struct {
	// Role is that of the partition.
	Role string
	// Stages are files of the firmware, Texts files by their names.
	Stages []string
	Texts  map[string]string
	// Overlays is set when the target adds overlays of device trees.
	Overlays bool `json:",omitempty"`

	Firmware build.Step `json:"-"`
	// Tree has the kernel's device trees; nil: the partition has none.
	Tree build.Step `json:"-"`
	// UBoot is the step with U-Boot's files, Kernel and Initrd are what the firmware starts
	// without it; nil for none.
	UBoot  build.Step        `json:"-"`
	Kernel *bootloader.File  `json:"-"`
	Initrd []bootloader.File `json:"-"`
}

var (
	_ build.Step      = (*Boot)(nil)
	_ build.Versioned = (*Boot)(nil)
)

// Name is "rpi/" and the role.
func (b *Boot) Name() string { return "rpi/" + b.Role }

// Version of the step's logic.
func (b *Boot) Version() int { return 1 }

// Deps are firmware, device trees, and U-Boot or kernel and initrd.
func (b *Boot) Deps() []build.Step {
	out := []build.Step{b.Firmware}
	for _, s := range []build.Step{b.Tree, b.UBoot} {
		if s != nil {
			out = append(out, s)
		}
	}
	if b.Kernel != nil {
		out = append(out, b.Kernel.Step)
	}
	for _, f := range b.Initrd {
		out = append(out, f.Step)
	}
	return out
}

// Run writes the tree.
func (b *Boot) Run(ctx context.Context, w *build.Work) error {
	texts := map[string][]byte{}
	for name, text := range b.Texts {
		texts[name] = []byte(text)
	}
	if err := bootloader.WriteTree(w.Out, texts); err != nil {
		return err
	}
	for _, name := range b.Stages {
		if err := copyFile(ctx, w, name, filepath.Join(w.In(b.Firmware), firmwareDir, name)); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return fault.New(fault.Missing, "adding the firmware: the package %s has no file %s%s", firmwarePackage, firmwareDir, name)
			}
			return fault.Wrap(fault.IO, err, "adding the firmware")
		}
	}
	if err := b.deviceTrees(ctx, w); err != nil {
		return err
	}
	if b.UBoot != nil {
		return fault.Wrap(fault.IO, build.CopyTree(ctx, w.Out, w.In(b.UBoot)), "adding U-Boot's files")
	}
	return b.kernel(ctx, w)
}

// patterns are where kernels keep the device trees of the Raspberry Pi: those of arm64 and, in
// recent kernels, arm are in a directory of the SoC's maker.
var patterns = []string{"dtbs/bcm2*-rpi-*.dtb", "dtbs/broadcom/bcm2*-rpi-*.dtb"}

// deviceTrees copies the device trees of all models to where the firmware looks for them.
func (b *Boot) deviceTrees(ctx context.Context, w *build.Work) error {
	if b.Tree == nil {
		return nil
	}
	var found []string
	for _, p := range patterns {
		more, err := filepath.Glob(filepath.Join(w.In(b.Tree), p))
		if err != nil {
			return fault.Wrap(fault.Internal, err, "looking for device trees")
		}
		found = append(found, more...)
	}
	if len(found) == 0 {
		return fault.New(fault.Missing, "looking for device trees: the kernel has none of a Raspberry Pi (bcm2*-rpi-*.dtb)")
	}
	if !b.Overlays {
		w.Warn("there are no overlays for the kernel's device trees: dtoverlay and dtparam in config.txt have no effect (bootloader.files can add overlays/)")
	}
	for _, file := range found {
		if err := copyFile(ctx, w, filepath.Base(file), file); err != nil {
			return fault.Wrap(fault.IO, err, "adding device trees")
		}
	}
	return nil
}

// kernel writes what the firmware starts.
func (b *Boot) kernel(ctx context.Context, w *build.Work) error {
	if b.Kernel == nil {
		return nil
	}
	if b.Role == "boot" {
		w.Warn("the firmware always starts this kernel: an update that restarts the device is rolled back; rpi-uboot can try one (bootloader.type)")
	}
	if err := copyFile(ctx, w, kernelFile, filepath.Join(w.In(b.Kernel.Step), filepath.FromSlash(b.Kernel.Path))); err != nil {
		return fault.Wrap(fault.IO, err, "adding the kernel")
	}
	return fault.Wrap(fault.IO, b.initrd(w), "joining the initrd")
}

// initrd joins the archives: the firmware loads them as one.
func (b *Boot) initrd(w *build.Work) (err error) {
	file := filepath.Join(w.Out, initrdFile)
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close(), setTime(file)) }()
	for _, f := range b.Initrd {
		in, err := os.Open(filepath.Join(w.In(f.Step), filepath.FromSlash(f.Path)))
		if err != nil {
			return err
		}
		_, err = io.Copy(out, in)
		if err = errors.Join(err, in.Close()); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(ctx context.Context, w *build.Work, name, from string) error {
	to := filepath.Join(w.Out, path.Base(name))
	if err := filecopy.File(ctx, to, from, 0o644); err != nil {
		return err
	}
	return setTime(to)
}

func setTime(file string) error {
	epoch := time.Unix(build.Epoch, 0)
	return os.Chtimes(file, epoch, epoch)
}

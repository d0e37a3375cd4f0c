package workspace

import (
	"context"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/emulator"
	"github.com/pantavisor/pantavisor/formats/uimage"
	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/kernel"
	"github.com/pantavisor/pantavisor/targets"
)

// loads fills in what QEMU itself loads for a machine: device tree, and a boot loader or
// kernel, initrd with all addons and command line of the target. Files that have to be made
// are put into the directory tmp.
func (j *job) loads(ctx context.Context, t *targets.Target, comp *images.Composition, cfg *emulator.Config, tmp string) error {
	e := &cfg.Emulator
	if e.BootFile != "" {
		if err := j.bootFile(ctx, comp, e, tmp); err != nil {
			return err
		}
	}
	if e.Boot != "kernel" { // what loads the kernel has them from a device tree, or from the disk
		cfg.Append = strings.Join(e.Arguments, " ")
		if e.DTB == "" {
			if len(e.Arguments) > 0 {
				cfg.AppendAt = int64(t.Partition("boot").Start)
			}
			return nil
		}
	}
	outputs, err := j.outputs(ctx, comp, "kernel", "initrd")
	if err != nil {
		return err
	}
	if e.DTB != "" {
		if cfg.DTB, err = one(outputs["kernel tree"], filepath.Join("dtbs", e.DTB)); err != nil {
			return fault.Wrap(fault.BadInput, err, "looking for emulator.dtb")
		}
	}
	if e.Boot != "kernel" { // a loader loads the others from the disk
		return nil
	}
	if cfg.Kernel, err = one(outputs["kernel"], kernel.ImageFile); err != nil {
		return err
	}
	cfg.Append = strings.Join(slices.Concat(t.Kernel.Arguments, e.Arguments), " ")
	cfg.Initrd = filepath.Join(tmp, "initrd")
	return join(cfg.Initrd, outputs["initrd"])
}

// outputs returns the directories of components' steps, and as "NAME tree" those of what they
// are made from: a kernel's device trees stay in its tree.
func (j *job) outputs(ctx context.Context, comp *images.Composition, names ...string) (map[string][]string, error) {
	out := map[string][]string{}
	for _, name := range names {
		steps := comp.Components[name]
		res, err := j.Build(ctx, steps...)
		if err != nil {
			return nil, err
		}
		for _, s := range steps {
			out[name] = append(out[name], res.Dir(s))
			for _, dep := range s.Deps() {
				out[name+" tree"] = append(out[name+" tree"], res.Dir(dep))
			}
		}
	}
	return out, nil
}

// bootFile makes the loader of a machine from a file of the boot partition.
func (j *job) bootFile(ctx context.Context, comp *images.Composition, e *targets.Emulator, tmp string) error {
	var dirs []string
	for _, f := range bootFiles(comp) {
		res, err := j.Build(ctx, f.Tree.Step)
		if err != nil {
			return err
		}
		dirs = append(dirs, filepath.Join(res.Dir(f.Tree.Step), filepath.FromSlash(f.Tree.File)))
	}
	file, err := one(dirs, e.BootFile)
	if err != nil {
		return fault.New(fault.BadInput, "looking for emulator.boot_file: the boot partition has no %s", e.BootFile)
	}
	e.Loader, e.BootFile = file, ""
	if at := e.LoadAddress(); at != 0 {
		e.Loader = filepath.Join(tmp, path.Base(file)+".uimage")
		return wrap(e.Loader, file, at)
	}
	return nil
}

// bootFiles are the trees of the boot partition of the main image.
func bootFiles(comp *images.Composition) []images.RoleFiles {
	made := comp.Outputs[images.OutputImage]
	if len(made) == 0 {
		return nil
	}
	var out []images.RoleFiles
	if disk, ok := made[0].Step.(*images.Disk); ok {
		for _, f := range disk.Files {
			if f.Role == "boot" {
				out = append(out, f)
			}
		}
	}
	return out
}

// wrap writes a program as the image that QEMU loads to an address and starts there.
func wrap(to, file string, at uint32) (err error) {
	code, err := os.Open(file)
	if err != nil {
		return fault.Wrap(fault.IO, err, "wrapping the loader")
	}
	defer code.Close()
	out, err := os.Create(to)
	if err != nil {
		return fault.Wrap(fault.IO, err, "wrapping the loader")
	}
	defer func() { err = errors.Join(err, fault.Wrap(fault.IO, out.Close(), "wrapping the loader")) }()
	h := uimage.Header{Name: "loader", Arch: uimage.ARM, Time: build.Epoch, Load: at, Entry: at}
	return fault.Wrap(fault.IO, uimage.Write(out, uimage.Kernel, h, code), "wrapping the loader")
}

// one finds a file in the outputs of steps.
func one(dirs []string, name string) (string, error) {
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fault.New(fault.Missing, "the target's kernel has no %s", name)
}

// join writes the archives of an initrd behind each other, as a boot loader does.
func join(to string, dirs []string) (err error) {
	out, err := os.Create(to)
	if err != nil {
		return fault.Wrap(fault.IO, err, "writing the initrd")
	}
	defer func() { err = errors.Join(err, fault.Wrap(fault.IO, out.Close(), "writing the initrd")) }()
	for _, dir := range dirs {
		archives, err := filepath.Glob(filepath.Join(dir, "*.cpio.*"))
		if err != nil {
			return err
		}
		for _, archive := range archives {
			if err := appendFile(out, archive); err != nil {
				return fault.Wrap(fault.IO, err, "adding %s to the initrd", archive)
			}
		}
	}
	return nil
}

func appendFile(out io.Writer, path string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	_, err = io.Copy(out, in)
	return err
}

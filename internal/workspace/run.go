package workspace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/emulator"
	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/kernel"
	"github.com/pantavisor/pantavisor/targets"
)

// Run builds a target and boots its image on one of its emulators: the one with that
// name, the first for "".
func (w *Workspace) Run(ctx context.Context, target, machine string) error {
	t, err := w.load(target)
	if err != nil {
		return err
	}
	e, err := t.Machine(machine)
	if err != nil {
		return err
	}
	if e.BIOS != "" && !filepath.IsAbs(e.BIOS) {
		l, err := w.sources()
		if err != nil {
			return err
		}
		place, _ := l.Find(filepath.ToSlash(filepath.Clean(e.BIOS)))
		e.BIOS = place.Path
	}
	if err := emulator.Ensure(ctx, *e, w.Options.Interactive, w.Stderr); err != nil {
		return err
	}
	quiet := *w
	quiet.JSON = false
	_, comp, err := quiet.build(ctx, target)
	if err != nil {
		return err
	}
	made := comp.Outputs[images.OutputImage]
	if len(made) == 0 {
		return fault.New(fault.Unsupported, "target %s makes no image to boot", target)
	}
	if !w.Options.Debug {
		fmt.Fprintf(w.Stderr, "this image has no debug shell; PANTAVISOR_DEBUG=yes mage run %s makes one that has\n", target)
	}
	o := emulator.Options{
		Target: target, Emulator: *e, Image: filepath.Join(w.Out(target), filepath.FromSlash(made[0].To)),
		Containers:  1, // the device lists all that its revision has, or none yet
		Interactive: w.Options.Interactive, JSON: w.JSON,
		Stdin: os.Stdin, Stdout: w.Stdout, Stderr: w.Stderr,
	}
	if e.Boot == "kernel" {
		tmp, err := os.MkdirTemp("", "pv-kernel-")
		if err != nil {
			return fault.Wrap(fault.IO, err, "making a directory for the initrd")
		}
		defer os.RemoveAll(tmp)
		if err := w.kernelOf(ctx, t, &o, tmp); err != nil {
			return err
		}
	}
	return emulator.Run(ctx, o)
}

// kernelOf fills in what QEMU itself loads: kernel, initrd with all addons, device tree
// and command line of a target. The initrd is put together in tmp.
func (w *Workspace) kernelOf(ctx context.Context, t *targets.Target, o *emulator.Options, tmp string) error {
	j, err := w.open(ctx, t.Name)
	if err != nil {
		return err
	}
	defer j.close() //nolint:errcheck // the build's own error says more
	outputs := map[string][]string{}
	for _, name := range []string{"kernel", "initrd"} {
		steps := j.comp.Components[name]
		res, err := j.Build(ctx, steps...)
		if err != nil {
			return err
		}
		for _, s := range steps {
			outputs[name] = append(outputs[name], res.Dir(s))
			for _, dep := range s.Deps() { // a kernel's device trees stay in its tree
				outputs[name+" tree"] = append(outputs[name+" tree"], res.Dir(dep))
			}
		}
	}
	if o.Kernel, err = one(outputs["kernel"], kernel.ImageFile); err != nil {
		return err
	}
	if o.Emulator.DTB != "" {
		if o.DTB, err = one(outputs["kernel tree"], filepath.Join("dtbs", o.Emulator.DTB)); err != nil {
			return fault.Wrap(fault.BadInput, err, "looking for emulator.dtb")
		}
	}
	o.Append = strings.Join(slices.Concat(t.Kernel.Arguments, o.Emulator.Arguments), " ")
	o.Initrd = filepath.Join(tmp, "initrd")
	return join(o.Initrd, outputs["initrd"])
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

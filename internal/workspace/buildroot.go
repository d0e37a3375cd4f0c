package workspace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pantavisor/pantavisor/build/gobinary"
	"github.com/pantavisor/pantavisor/containers"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/integration/buildroot"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/host"
)

// Buildroot checks the external tree in a tree of Buildroot; "" for none. only takes the steps alone
// whose names have this text.
func (w *Workspace) Buildroot(ctx context.Context, tree, only string) error {
	results := []buildroot.Result{}
	err := w.buildroot(ctx, tree, only, func(r buildroot.Result) {
		results = append(results, r)
		if !w.JSON {
			fmt.Fprintln(w.Stdout, r)
		}
	})
	if w.JSON {
		err = errors.Join(err, w.Print(results))
	}
	return err
}

func (w *Workspace) buildroot(ctx context.Context, tree, only string, tell func(buildroot.Result)) error {
	o := buildroot.Options{Tree: tree, Only: only, Version: gobinary.ReleaseName(w.Options.Release), Work: w.Out("buildroot"), Tell: tell}
	if tree == "" {
		return buildroot.Check(ctx, o)
	}
	l, err := w.Sources()
	if err != nil {
		return err
	}
	o.External = filepath.Join(l.Shipped().Dir, "integration/buildroot")
	o.Dist = filepath.Join(o.Work, "dist")
	w.OutDir = o.Dist
	if _, err := w.dist(ctx, []string{"source"}); err != nil {
		return err
	}
	if o.Tree, err = filepath.Abs(tree); err != nil {
		return err
	}
	for _, m := range []struct{ name, target string }{{"x86_64", "x64-uefi-lean"}, {"aarch64", "qemu-aarch64-lean"}} {
		o.Machines = append(o.Machines, buildroot.Machine{
			Name: m.name,
			Parts: func(ctx context.Context, dir string) (buildroot.Parts, error) {
				return w.buildrootParts(ctx, m.target, dir)
			},
			Boot: func(ctx context.Context, image string) error {
				return w.bootImage(ctx, m.target, image, buildrootContainers)
			},
		})
	}
	return buildroot.Check(ctx, o)
}

// buildrootContainers are how many containers the images of whole builds have.
const buildrootContainers = 1

// Places of files that Debian's packages install on this machine.
const (
	grubModules = "/usr/lib/grub/x86_64-efi"
	armUBoot    = "/usr/lib/u-boot/qemu_arm64/u-boot.bin"
)

// buildrootNeeds are the programs that whole builds with Buildroot take from this machine, and
// files of boot loaders.
func buildrootNeeds() []host.Need {
	file := func(name, pkg string) host.Need {
		return host.Need{Name: name, Package: pkg, Has: func() bool { return exists(name) }}
	}
	return []host.Need{
		{Name: "cpio", Package: "cpio"}, {Name: "fakeroot", Package: "fakeroot"}, {Name: "gcc", Package: "gcc"}, {Name: "grub-mkimage", Package: "grub-common"},
		{Name: "depmod", Package: "kmod", Has: func() bool { return exists("/usr/sbin/depmod") || exists("/sbin/depmod") }},
		{Name: "make", Package: "make"}, {Name: "mksquashfs", Package: "squashfs-tools"}, {Name: "rsync", Package: "rsync"}, {Name: "xz", Package: "xz-utils"},
		file(grubModules, "grub-efi-amd64-bin"), file(armUBoot, "u-boot-qemu"),
	}
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// buildrootParts saves the kernel of a target, and BusyBox.
func (w *Workspace) buildrootParts(ctx context.Context, target, dir string) (buildroot.Parts, error) {
	if err := host.Ensure(ctx, "whole builds with Buildroot", buildrootNeeds(), w.Options.Interactive, w.Stderr); err != nil {
		return buildroot.Parts{}, err
	}
	quiet := *w
	quiet.JSON = false
	j, err := quiet.open(ctx, target)
	if err != nil {
		return buildroot.Parts{}, err
	}
	p, err := quiet.saveBuildrootParts(ctx, j, dir)
	return p, errors.Join(err, j.close())
}

func (w *Workspace) saveBuildrootParts(ctx context.Context, j *job, dir string) (buildroot.Parts, error) {
	list, err := w.saveInputs(ctx, j, dir)
	if err != nil {
		return buildroot.Parts{}, err
	}
	requests := containers.Requests(j.target, j.layers)
	if len(requests) == 0 {
		return buildroot.Parts{}, fault.New(fault.Internal, "target %s takes no packages for containers", j.target.Name)
	}
	pkg, err := j.parts.Fetch(requests[0], "busybox-static")
	if err != nil {
		return buildroot.Parts{}, err
	}
	busybox := &debian.Unpack{Keep: []string{"bin/", "usr/bin/"}, Package: pkg}
	res, err := j.Build(ctx, busybox)
	if err != nil {
		return buildroot.Parts{}, err
	}
	program := filepath.Join(res.Dir(busybox), "bin/busybox")
	if !exists(program) {
		program = filepath.Join(res.Dir(busybox), "usr/bin/busybox") // since Debian 13
	}
	saved := filepath.Dir(list)
	p := buildroot.Parts{
		Kernel: filepath.Join(saved, "kernel/image"), KernelConfig: filepath.Join(saved, "kernel/config"), Modules: filepath.Join(saved, "kernel/modules"), Busybox: program,
	}
	if j.target.Arch.Go == "amd64" {
		p.Grub = grubModules
	} else {
		p.UBoot = armUBoot
	}
	return p, nil
}

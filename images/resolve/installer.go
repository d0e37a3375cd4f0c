package resolve

import (
	"fmt"
	"slices"

	"github.com/pantavisor/pantavisor/bootloader"
	"github.com/pantavisor/pantavisor/bootloader/loaders"
	"github.com/pantavisor/pantavisor/build/gobinary"
	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/images/layouts"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/targets"
)

// installerPackage is the main package of process 1 of an installation medium.
const installerPackage = "cmd/pv-installer"

// firmware returns the name of what a target makes: an installation medium has the firmware
// of the target that it is a build of, bit by bit.
func firmware(t *targets.Target) string {
	if t.Installer != nil {
		return t.Definition
	}
	return t.Name
}

// installer returns the installation medium of a target that is one.
func (p *providers) installer(in *images.Inputs) (*images.Installer, error) {
	t := p.target
	if !slices.Contains(in.Outputs, images.OutputInstaller) || in.Kernel == nil {
		return nil, nil
	}
	loader, err := loaders.For(t)
	if err != nil {
		return nil, err
	}
	starter, ok := loader.(bootloader.Starter)
	if !ok {
		return nil, fault.New(fault.Unsupported, "builds.installer: the loader %s cannot start an installation medium", t.Bootloader.Type)
	}
	kit := p.kit(in)
	files, err := starter.Start(images.InstallerKernel, images.InstallerInitrd, installerArguments(t.Installer), kit)
	if err != nil {
		return nil, err
	}
	blobs, err := layouts.Blobs(loader, kit)
	if err != nil {
		return nil, err
	}
	program := gobinary.ForDevice(p.Module, installerPackage, t.Arch)
	return &images.Installer{
		File: fmt.Sprintf("%s-pv-%dMiB.img", t.Name, t.Installer.Size), Size: t.Installer.Size,
		Program: images.Artefact{Step: program, File: program.File()}, Files: images.Artefact{Step: files}, Blobs: blobs,
	}, nil
}

// installerArguments are those of package runtime/installer.
func installerArguments(i *targets.Installer) []string {
	if i.Silent {
		return []string{"pv_install_ask=no"}
	}
	return []string{fmt.Sprintf("pv_install_wait=%d", i.Wait)}
}

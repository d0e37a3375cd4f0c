// Package loaders has the table of boot loaders by a target's bootloader.type. To add a
// loader, write a package beside this one and add an entry here and a value in package
// targets.
package loaders

import (
	"github.com/pantavisor/pantavisor/bootloader"
	"github.com/pantavisor/pantavisor/bootloader/efiab"
	"github.com/pantavisor/pantavisor/bootloader/extlinux"
	"github.com/pantavisor/pantavisor/bootloader/grub"
	"github.com/pantavisor/pantavisor/bootloader/rpi"
	"github.com/pantavisor/pantavisor/bootloader/uboot"
	"github.com/pantavisor/pantavisor/bootloader/ubootab"
	"github.com/pantavisor/pantavisor/bootloader/ubootflash"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/targets"
)

// loader is an entry of the table.
type loader struct {
	open func(*targets.Target) bootloader.Loader
	// tools are the Debian packages of the helper programs that its steps run.
	tools []string
}

var loaders = map[string]loader{
	"efiab":       {efiab.New, grub.ToolPackages},
	"extlinux":    {extlinux.New, nil},
	"grub":        {grub.New, grub.ToolPackages},
	"uboot":       {uboot.New, nil},
	"uboot-ab":    {ubootab.New, nil},
	"uboot-flash": {ubootflash.New, nil},
	"rpi":         {rpi.New, nil},
	"rpi-uboot":   {rpi.NewUBoot, nil},
	"rpiab":       {rpi.NewAB, nil},
}

// For returns the boot loader of a target. The target must have one.
func For(t *targets.Target) (bootloader.Loader, error) {
	l, ok := loaders[t.Bootloader.Type]
	if !ok {
		return nil, fault.Wrap(fault.BadInput, targets.NotReady("bootloader.type", t.Bootloader.Type), "choosing the boot loader")
	}
	return l.open(t), nil
}

// ToolPackages lists the Debian packages of the helper programs that a target's boot loader
// needs, if it has one.
func ToolPackages(t *targets.Target) []string {
	if t.Bootloader == nil {
		return nil
	}
	return loaders[t.Bootloader.Type].tools
}

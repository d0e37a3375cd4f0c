// Package loaders has the table of boot loaders by a target's bootloader.type. To add a
// loader, write a package beside this one and add an entry here and a value in package
// targets.
package loaders

import (
	"github.com/pantavisor/pantavisor/bootloader"
	"github.com/pantavisor/pantavisor/bootloader/grub"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/targets"
)

var loaders = map[string]func(*targets.Target) bootloader.Loader{
	"grub": grub.New,
}

// For returns the boot loader of a target. The target must have one.
func For(t *targets.Target) (bootloader.Loader, error) {
	open, ok := loaders[t.Bootloader.Type]
	if !ok {
		return nil, fault.Wrap(fault.BadInput, targets.NotReady("bootloader.type", t.Bootloader.Type), "choosing the boot loader")
	}
	return open(t), nil
}

package workspace

import (
	"context"

	"github.com/pantavisor/pantavisor/emulator"
	"github.com/pantavisor/pantavisor/internal/host"
	"github.com/pantavisor/pantavisor/targets"
)

// oracles are the programs that the tests check our own formats with, by the
// Debian packages that bring them.
var oracles = map[string][]string{
	"bmap-tools":     {"bmaptool"},
	"cpio":           {"cpio"},
	"cryptsetup-bin": {"veritysetup"},
	"dosfstools":     {"fsck.vfat"},
	"e2fsprogs":      {"mke2fs", "e2fsck", "debugfs", "dumpe2fs"},
	"fdisk":          {"sfdisk"},
	"gdisk":          {"sgdisk"},
	"git":            {"git"},
	"iproute2":       {"ip"},
	"mtools":         {"mdir", "mcopy"},
	"squashfs-tools": {"unsquashfs", "mksquashfs"},
	"util-linux":     {"partx", "losetup", "unshare"},
	"xz-utils":       {"xz"},
}

// PrepareTests installs what the tests need of this machine: the emulators of all
// targets and the programs that judge our formats.
func (d *Workspace) PrepareTests(ctx context.Context) error {
	var needs []host.Need
	for pkg, programs := range oracles {
		for _, p := range programs {
			needs = append(needs, host.Need{Name: p, Package: pkg})
		}
	}
	if err := host.Ensure(ctx, "the tests", needs, d.Options.Interactive, d.Stderr); err != nil {
		return err
	}
	all, err := targets.LoadAll(targets.Workspace(d.Root))
	if err != nil {
		return err
	}
	for _, t := range all {
		if t.Emulator == nil {
			continue
		}
		if err := emulator.Ensure(ctx, *t.Emulator, d.Options.Interactive, d.Stderr); err != nil {
			return err
		}
	}
	return nil
}

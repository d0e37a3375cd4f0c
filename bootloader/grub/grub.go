// Package grub makes GRUB boot Pantavisor: the core image that UEFI firmware or a PC's BIOS
// starts, its configuration, and the two environment blocks of the boot handshake.
//
// On the boot partition (FAT) are EFI/BOOT/BOOTX64.EFI (or that of another
// architecture), grub/grub.cfg and grub/grubenv
// (pv_trying, written by GRUB); on the storage (ext4) is boot/grubenv (pv_rev and pv_try,
// written by the runtime). GRUB overwrites an environment block in place, which works on
// FAT; it never writes to the storage. A BIOS starts the code of the first sector, which loads
// a core image from outside of partitions; a medium may have both cores.
package grub

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/bootloader"
	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/formats/grubenv"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/trail"
	"github.com/pantavisor/pantavisor/targets"
)

// Paths on the boot partition and the storage.
const (
	ConfigFile = "grub/grub.cfg"
	TryingFile = "grub/grubenv"
	StateFile  = "boot/grubenv" // on the storage
)

// platform is GRUB on one kind of firmware.
type platform struct {
	// format is grub-mkimage's word, and the name of the directory with the modules.
	format string
	// arch is the GOARCH of the kernels that it starts.
	arch string
	// coreFile is the path on the boot partition that UEFI starts from a removable medium
	// (UEFI specification 2.10, table 3.2). Empty for a BIOS, which knows no files.
	coreFile string
	// drivers are the modules that reach the disk, where the firmware's own do not.
	drivers []string
}

// platforms are those of the Debian packages with their modules.
var platforms = map[string]platform{
	"grub-efi-amd64-bin":   {format: "x86_64-efi", arch: "amd64", coreFile: "EFI/BOOT/BOOTX64.EFI"},
	"grub-efi-arm64-bin":   {format: "arm64-efi", arch: "arm64", coreFile: "EFI/BOOT/BOOTAA64.EFI"},
	"grub-efi-arm-bin":     {format: "arm-efi", arch: "arm", coreFile: "EFI/BOOT/BOOTARM.EFI"},
	"grub-efi-riscv64-bin": {format: "riscv64-efi", arch: "riscv64", coreFile: "EFI/BOOT/BOOTRISCV64.EFI"},
	"grub-pc-bin":          {format: "i386-pc", arch: "amd64", drivers: []string{"biosdisk"}},
}

// platformOf returns the platform of a package, for kernels of a GOARCH.
func platformOf(pkg, arch string) (platform, error) {
	p, ok := platforms[pkg]
	if !ok || p.arch != arch {
		var fit []string
		for name, p := range platforms {
			if p.arch == arch {
				fit = append(fit, name)
			}
		}
		if fit == nil {
			return p, fault.New(fault.Unsupported, "bootloader.type: GRUB does not run on %s", arch)
		}
		slices.Sort(fit)
		return p, fault.New(fault.BadInput, "bootloader.packages: %s has no GRUB that starts a kernel for %s; want %s", pkg, arch, strings.Join(fit, " or "))
	}
	return p, nil
}

// modules is the directory of the modules in the Debian package.
func (p platform) modules() string { return modulesDir + p.format }

const modulesDir = "usr/lib/grub/"

// coreModules are the modules that grub.cfg needs, besides that of the partition table; no
// network or image format is among them.
var coreModules = []string{
	"fat", "ext2", "search", "search_label", "probe", "linux", "loadenv", "serial", "terminal", "echo", "test",
	"true", "boot", "normal", "sleep", "regexp", "reboot", "halt",
}

// selectorModules are those of a GRUB that starts one of two partitions.
var selectorModules = []string{
	"fat", "chain", "loadenv", "serial", "terminal", "echo", "test", "true", "boot", "normal", "sleep", "regexp", "reboot", "halt",
}

// tables are the kinds of partition tables: GRUB's word for it, and the first sector that
// it leaves free. Package targets lists them too.
var tables = map[string]struct {
	word string
	free int64
}{"gpt": {"gpt", 34}, "hybrid": {"gpt", 34}, "mbr": {"msdos", 1}}

// ToolPackages are the Debian packages of the helper programs: grub-mkimage.
var ToolPackages = []string{"grub-common"}

// Loader is GRUB for one target.
type Loader struct {
	target *targets.Target
}

var _ bootloader.Loader = (*Loader)(nil)

// New returns GRUB for a target with a boot loader.
func New(t *targets.Target) bootloader.Loader { return &Loader{t} }

// Requests lists the packages with GRUB's modules, for example grub-efi-amd64-bin.
func (l *Loader) Requests() []debian.Request { return bootloader.Packages(l.target) }

// Files returns the step with the files of the partition with the role boot. Settings
// that do not fit are bad input.
func (l *Loader) Files(role string, k bootloader.Kit) (build.Step, error) {
	if role != "boot" {
		return nil, nil
	}
	settings, err := l.settings()
	if err != nil {
		return nil, err
	}
	config, err := settings.Config()
	if err != nil {
		return nil, err
	}
	cores, err := l.cores(k)
	return &Boot{Config: config, Cores: cores}, err
}

// cores returns the core images for UEFI.
func (l *Loader) cores(k bootloader.Kit) ([]CoreFile, error) {
	var out []CoreFile
	for _, name := range l.target.Bootloader.Packages {
		p, modules, err := l.unpack(name, k)
		if err != nil {
			return nil, err
		}
		if p.coreFile != "" {
			out = append(out, CoreFile{Path: p.coreFile, Core: l.core(p, modules, k.Tools)})
		}
	}
	return out, nil
}

// unpack returns the platform of a package and the step with its modules.
func (l *Loader) unpack(name string, k bootloader.Kit) (platform, build.Step, error) {
	p, err := platformOf(name, l.target.Arch.Go)
	if err != nil {
		return p, nil, err
	}
	step, err := k.Package(name, p.modules()+"/")
	return p, step, err
}

// settings returns the settings from the target.
func (l *Loader) settings() (Settings, error) {
	s := Settings{Timeout: l.target.Bootloader.Timeout}
	if k := l.target.Kernel; k != nil {
		s.Arguments = k.Arguments
	}
	root := l.target.Partition("root")
	if root == nil {
		return s, fault.New(fault.BadInput, "no partition has the role root")
	}
	s.RootLabel = root.Name
	return s, nil
}

// Raw returns what a BIOS loads, where the packages have that platform: the first sector's
// code and the core image. UEFI loads a file.
func (l *Loader) Raw(k bootloader.Kit) ([]bootloader.Blob, error) {
	for _, name := range l.target.Bootloader.Packages {
		p, modules, err := l.unpack(name, k)
		if err != nil {
			return nil, err
		}
		if p.coreFile == "" {
			return l.embed(l.core(p, modules, k.Tools))
		}
	}
	return nil, nil
}

// State returns the step with the files of the storage.
func (l *Loader) State() build.Step { return &Root{} }

// core returns the step of a platform's core image from the step with its modules.
func (l *Loader) core(p platform, modules build.Step, tools *debian.Toolbox) *Core {
	return newCore(p, l.target.Image().Table, modules, tools)
}

func newCore(p platform, table string, modules build.Step, tools *debian.Toolbox) *Core {
	return &Core{
		Format: p.format, Prefix: bootDir, Modules: slices.Concat([]string{"part_" + tables[table].word}, p.drivers, coreModules),
		Package: modules, Tools: tools,
	}
}

// Core is the step that links GRUB's core image. Its output is "core.img".
type Core struct {
	// Format is that of the platform.
	Format string
	// Prefix is the directory of grub.cfg. Without a device it is on the one that the
	// firmware loaded GRUB from, so a second disk with the same labels does no harm.
	Prefix  string
	Modules []string
	Package build.Step      `json:"-"`
	Tools   *debian.Toolbox `json:"-"`
}

const (
	coreName = "core.img"
	// bootDir is the directory of GRUB's files on the boot partition.
	bootDir = "/grub"
)

var (
	_ build.Step      = (*Core)(nil)
	_ build.Versioned = (*Core)(nil)
)

// Name is "grub/core/FORMAT".
func (c *Core) Name() string { return "grub/core/" + c.Format }

// Version of the step's logic.
func (c *Core) Version() int { return 1 }

// Deps are GRUB's modules and the helper programs.
func (c *Core) Deps() []build.Step { return []build.Step{c.Package, c.Tools} }

// modules is the directory of the unpacked modules.
func (c *Core) modules(w *build.Work) string {
	return filepath.Join(w.In(c.Package), platform{format: c.Format}.modules())
}

// Run starts grub-mkimage.
func (c *Core) Run(ctx context.Context, w *build.Work) error {
	core := filepath.Join(w.Out, coreName)
	args := append([]string{"-O", c.Format, "-d", c.modules(w), "-p", c.Prefix, "-o", core}, c.Modules...)
	return c.Tools.Exec(ctx, w, w.Tmp, "grub-mkimage", args...)
}

// Boot is the step that lays out the boot partition's files.
type Boot struct {
	// Config is the text of grub.cfg.
	Config string
	// Cores are what UEFI firmware starts.
	Cores []CoreFile
}

// CoreFile is a core image and its path.
type CoreFile struct {
	Path string
	Core *Core `json:"-"`
}

var (
	_ build.Step      = (*Boot)(nil)
	_ build.Versioned = (*Boot)(nil)
)

// Name is "grub/boot".
func (b *Boot) Name() string { return "grub/boot" }

// Version of the step's logic.
func (b *Boot) Version() int { return 1 }

// Deps are the core images.
func (b *Boot) Deps() []build.Step { return stepsOf(b.Cores) }

func stepsOf(cores []CoreFile) []build.Step {
	var out []build.Step
	for _, c := range cores {
		out = append(out, c.Core)
	}
	return out
}

// Run writes the tree.
func (b *Boot) Run(_ context.Context, w *build.Work) error {
	trying, err := grubenv.Env{"pv_trying": ""}.Bytes()
	if err != nil {
		return fault.Wrap(fault.Internal, err, "making GRUB's environment block")
	}
	return writeBoot(w, b.Cores, map[string][]byte{ConfigFile: []byte(b.Config), TryingFile: trying})
}

// writeBoot writes files and core images.
func writeBoot(w *build.Work, cores []CoreFile, files map[string][]byte) (err error) {
	for _, c := range cores {
		if files[c.Path], err = os.ReadFile(filepath.Join(w.In(c.Core), coreName)); err != nil {
			return fault.Wrap(fault.IO, err, "reading GRUB's core image")
		}
	}
	return bootloader.WriteTree(w.Out, files)
}

// Root is the step with the first state of the boot handshake.
type Root struct{}

var (
	_ build.Step      = (*Root)(nil)
	_ build.Versioned = (*Root)(nil)
)

// Name is "grub/root".
func (r *Root) Name() string { return "grub/root" }

// Version of the step's logic.
func (r *Root) Version() int { return 1 }

// Deps is empty.
func (r *Root) Deps() []build.Step { return nil }

// Run writes the environment block.
func (r *Root) Run(_ context.Context, w *build.Work) error {
	state, err := grubenv.Env{"pv_rev": trail.First}.Bytes()
	if err != nil {
		return fault.Wrap(fault.Internal, err, "making GRUB's environment block")
	}
	return bootloader.WriteTree(w.Out, map[string][]byte{StateFile: state})
}

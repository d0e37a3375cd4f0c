// Package grub makes GRUB boot Pantavisor: the core image that UEFI firmware
// starts, its configuration, and the two environment blocks of the boot handshake.
//
// On the boot partition (FAT) are EFI/BOOT/BOOTX64.EFI (or that of another
// architecture), grub/grub.cfg and grub/grubenv
// (pv_trying, written by GRUB); on the storage (ext4) is boot/grubenv (pv_rev and pv_try,
// written by the runtime). GRUB overwrites an environment block in place, which works on
// FAT; it never writes to the storage.
package grub

import (
	"context"
	"maps"
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
	// coreFile is the path on the boot partition that UEFI starts from a removable medium
	// (UEFI specification 2.10, table 3.2).
	coreFile string
}

// platforms are those of each GOARCH.
var platforms = map[string]platform{
	"amd64":   {"x86_64-efi", "EFI/BOOT/BOOTX64.EFI"},
	"arm64":   {"arm64-efi", "EFI/BOOT/BOOTAA64.EFI"},
	"arm":     {"arm-efi", "EFI/BOOT/BOOTARM.EFI"},
	"riscv64": {"riscv64-efi", "EFI/BOOT/BOOTRISCV64.EFI"},
}

// platformOf returns GRUB's platform for a GOARCH; there is none for MIPS.
func platformOf(arch string) (platform, error) {
	p, ok := platforms[arch]
	if !ok {
		return p, fault.New(fault.Unsupported, "GRUB does not run on %s; it does on %s", arch, strings.Join(slices.Sorted(maps.Keys(platforms)), ", "))
	}
	return p, nil
}

// modules is the directory of the modules in the Debian package.
func (p platform) modules() string { return "usr/lib/grub/" + p.format }

// coreModules are the modules that grub.cfg needs; no network or image format is among
// them. Package targets lists the partition tables that they read (gpt).
var coreModules = []string{
	"part_gpt", "fat", "ext2", "search", "search_label", "probe", "linux", "loadenv", "serial", "terminal", "echo", "test",
	"true", "boot", "normal", "sleep", "regexp", "reboot", "halt",
}

// ToolPackages are the Debian packages of the helper programs: grub-mkimage.
var ToolPackages = []string{"grub-common"}

// Loader is GRUB for one target.
type Loader struct {
	target *targets.Target
}

var _ bootloader.Loader = (*Loader)(nil)

// New returns GRUB for a target with a boot loader.
func New(t *targets.Target) bootloader.Loader { return &Loader{t} }

// Requests lists the package with GRUB's modules, grub-efi-amd64-bin.
func (l *Loader) Requests() []debian.Request { return []debian.Request{l.request()} }

func (l *Loader) request() debian.Request {
	b := l.target.Bootloader
	return debian.Request{Name: bootloader.Request, Suite: b.Suite, Arch: l.target.Arch.Debian, Packages: slices.Sorted(slices.Values(b.Packages))}
}

// Files returns the step with the files of the partition with the role boot. Settings
// that do not fit are bad input.
func (l *Loader) Files(role string, k bootloader.Kit) (build.Step, error) {
	if role != "boot" {
		return nil, nil
	}
	p, err := platformOf(l.target.Arch.Go)
	if err != nil {
		return nil, err
	}
	settings, err := l.settings()
	if err != nil {
		return nil, err
	}
	pkg, err := k.Parts.Fetch(l.request(), l.target.Bootloader.Packages[0])
	if err != nil {
		return nil, err
	}
	return newBoot(p, settings, pkg, k.Tools)
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

// Raw returns nothing: UEFI loads a file.
func (l *Loader) Raw(bootloader.Kit) ([]bootloader.Blob, error) { return nil, nil }

// State returns the step with the files of the storage.
func (l *Loader) State() build.Step { return &Root{} }

// newBoot makes the boot partition's files from the package with the platform's modules,
// with grub-mkimage of the tools.
func newBoot(p platform, s Settings, pkg *debian.Fetch, tools *debian.Toolbox) (*Boot, error) {
	config, err := s.Config()
	if err != nil {
		return nil, err
	}
	modules := &debian.Unpack{Keep: []string{p.modules() + "/"}, Package: pkg}
	return &Boot{Config: config, File: p.coreFile, Core: &Core{Format: p.format, Modules: coreModules, Package: modules, Tools: tools}}, nil
}

// Core is the step that links GRUB's core image. Its output is "core.efi".
type Core struct {
	// Format is that of the platform.
	Format  string
	Modules []string
	Package *debian.Unpack  `json:"-"`
	Tools   *debian.Toolbox `json:"-"`
}

const coreName = "core.efi"

var (
	_ build.Step      = (*Core)(nil)
	_ build.Versioned = (*Core)(nil)
)

// Name is "grub/core".
func (c *Core) Name() string { return "grub/core" }

// Version of the step's logic.
func (c *Core) Version() int { return 1 }

// Deps are GRUB's modules and the helper programs.
func (c *Core) Deps() []build.Step { return []build.Step{c.Package, c.Tools} }

// Run starts grub-mkimage. The prefix names no device: GRUB then uses the device that the
// firmware loaded it from, so a second disk with the same labels does no harm.
func (c *Core) Run(ctx context.Context, w *build.Work) error {
	core := filepath.Join(w.Out, coreName)
	args := append([]string{"-O", c.Format, "-d", filepath.Join(w.In(c.Package), platform{format: c.Format}.modules()), "-p", "/grub", "-o", core}, c.Modules...)
	return c.Tools.Exec(ctx, w, w.Tmp, "grub-mkimage", args...)
}

// Boot is the step that lays out the boot partition's files.
type Boot struct {
	// Config is the text of grub.cfg.
	Config string
	// File is the path of the core image.
	File string
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

// Deps is the core image.
func (b *Boot) Deps() []build.Step { return []build.Step{b.Core} }

// Run writes the tree.
func (b *Boot) Run(_ context.Context, w *build.Work) error {
	core, err := os.ReadFile(filepath.Join(w.In(b.Core), coreName))
	if err != nil {
		return fault.Wrap(fault.IO, err, "reading GRUB's core image")
	}
	trying, err := grubenv.Env{"pv_trying": ""}.Bytes()
	if err != nil {
		return fault.Wrap(fault.Internal, err, "making GRUB's environment block")
	}
	return bootloader.WriteTree(w.Out, map[string][]byte{b.File: core, ConfigFile: []byte(b.Config), TryingFile: trying})
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

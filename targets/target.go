// Package targets holds the boards that images can be made for: one YAML file per target,
// loaded into [Target] and checked as a whole. A new kernel source, boot loader,
// partition table, role or format is an entry in values.go.
package targets

// Target is one YAML file of this directory, "<name>/target.yaml". The smallest one
// has a description and an arch: that is a BSP-only target.
type Target struct {
	// Name is the directory's name; it is not in the file.
	Name string `yaml:"-" json:"-"`
	// Description is one line for people.
	Description string `yaml:"description" json:"description"`
	// Base is another target: each field that is not here is as there, each that is here
	// replaces that one as a whole. The platform is that of the base.
	Base string `yaml:"base,omitempty" json:"base,omitempty" jsonschema:"anyof_required=base"`
	// Arch is the CPU in Go's terms. Only a target with a base may omit it.
	Arch Arch `yaml:"arch,omitempty" json:"arch" jsonschema:"anyof_required=arch"`
	// Platform names the directories config/<platform> and vendors/<platform>.
	// Default: the target's name.
	Platform string `yaml:"platform,omitempty" json:"platform,omitempty"`
	// Kernel is where kernel, modules and firmware come from. Absent in targets without a
	// kernel (App Engine).
	Kernel *Kernel `yaml:"kernel,omitempty" json:"kernel,omitempty"`
	// Bootloader is what loads the kernel. Absent when no disk is made.
	Bootloader *Bootloader `yaml:"bootloader,omitempty" json:"bootloader,omitempty"`
	// Image is the flashable medium. Absent: only the BSP export is made.
	Image *Image `yaml:"image,omitempty" json:"image,omitempty"`
	// AppEngine makes a package with the runtime as a daemon for an existing Linux
	// system, in place of kernel, boot loader and image.
	AppEngine *AppEngine `yaml:"appengine,omitempty" json:"appengine,omitempty"`
	// Containers are the starter containers of the default reference device, by
	// the names under containers/.
	Containers []string `yaml:"containers,omitempty" json:"containers,omitempty"`
	// Addons are archives that are loaded after the base initrd, in this order.
	Addons []Addon `yaml:"addons,omitempty" json:"addons,omitempty"`
	// Emulators are the machines in which `mage run` and the VM tests start the image:
	// one machine, or a list of named machines.
	Emulators Emulators `yaml:"emulator,omitempty" json:"emulator,omitempty"`
}

// Arch is a CPU architecture in the terms of the Go tool chain.
type Arch struct {
	// Go is GOARCH: amd64, arm64, arm, mips, mipsle or riscv64.
	Go string `yaml:"go" json:"go" jsonschema:"enum=amd64,enum=arm64,enum=arm,enum=mips,enum=mipsle,enum=riscv64"`
	// ARM is GOARM for arm: 5, 6 or 7.
	ARM string `yaml:"arm,omitempty" json:"arm,omitempty" jsonschema:"enum=5,enum=6,enum=7"`
	// MIPS is GOMIPS for mips and mipsle: softfloat or hardfloat.
	MIPS string `yaml:"mips,omitempty" json:"mips,omitempty" jsonschema:"enum=softfloat,enum=hardfloat"`
	// Debian is Debian's name for the architecture of its packages: amd64, arm64, armhf,
	// armel, mipsel, riscv64.
	Debian string `yaml:"debian,omitempty" json:"debian,omitempty" jsonschema:"enum=amd64,enum=arm64,enum=armhf,enum=armel,enum=mipsel,enum=riscv64"`
}

// Kernel is a kernel with its modules and firmware.
type Kernel struct {
	// Source is where it comes from: debian, packages of Debian.
	Source string `yaml:"source" json:"source"`
	// Suite is the Debian suite, for example bookworm.
	Suite string `yaml:"suite,omitempty" json:"suite,omitempty"`
	// Package is the kernel's meta package, for example linux-image-amd64.
	Package string `yaml:"package,omitempty" json:"package,omitempty"`
	// Arguments are appended to the kernel command line.
	Arguments []string `yaml:"arguments,omitempty" json:"arguments,omitempty"`
	// EarlyModules go into the initrd with their dependencies: the modules needed to
	// reach the storage, by their names for modprobe.
	EarlyModules []string `yaml:"early_modules,omitempty" json:"early_modules,omitempty"`
	// Firmware lists the packages with firmware files; only files that a module of the
	// kernel names are used.
	Firmware *Firmware `yaml:"firmware,omitempty" json:"firmware,omitempty"`
}

// Firmware picks firmware files for firmware.squashfs.
type Firmware struct {
	// Packages are Debian packages of the kernel's suite.
	Packages []string `yaml:"packages" json:"packages"`
	// Budget limits the size of the uncompressed files, in MiB.
	Budget int `yaml:"budget" json:"budget" jsonschema:"minimum=1,maximum=4096"`
	// Exclude lists patterns of files below lib/firmware to leave out: path.Match, or
	// "dir/**".
	Exclude []string `yaml:"exclude,omitempty" json:"exclude,omitempty"`
}

// Bootloader is the program that picks a revision and loads its kernel.
type Bootloader struct {
	// Type is its name: grub or uboot.
	Type string `yaml:"type" json:"type"`
	// Suite is the Debian suite that its parts come from.
	Suite string `yaml:"suite,omitempty" json:"suite,omitempty"`
	// Packages are the Debian packages that hold its parts.
	Packages []string `yaml:"packages,omitempty" json:"packages,omitempty"`
	// Addresses are where U-Boot loads to. Default: what its own variables kernel_addr_r and
	// fdt_addr_r say.
	Addresses *Addresses `yaml:"addresses,omitempty" json:"addresses,omitempty"`
	// Timeout is how long the loader waits for a key, in seconds.
	Timeout int `yaml:"timeout,omitempty" json:"timeout,omitempty" jsonschema:"minimum=0,maximum=3600"`
}

// Addresses are places in the memory of a board.
type Addresses struct {
	// Kernel is for the kernel.
	Kernel int64 `yaml:"kernel,omitempty" json:"kernel,omitempty" jsonschema:"minimum=0,maximum=1099511627775"`
	// Initrd is for the archives of the initrd: 16 MiB for the base and behind it 4 MiB for
	// each addon, up to eight.
	Initrd int64 `yaml:"initrd,omitempty" json:"initrd,omitempty" jsonschema:"minimum=0,maximum=1099511627775"`
	// DTB is for the device tree.
	DTB int64 `yaml:"dtb,omitempty" json:"dtb,omitempty" jsonschema:"minimum=0,maximum=1099511627775"`
}

// Runtime returns PV_BOOTLOADER_TYPE, the runtime's name of the loader's handshake. Loaders
// that differ only in how the kernel is started share one.
func (b *Bootloader) Runtime() string {
	v, _ := lookup(values["bootloader.type"], b.Type)
	return v.loader.runtime
}

// Image is a disk with a partition table.
type Image struct {
	// Size is the size of the whole medium in MiB.
	Size int `yaml:"size" json:"size" jsonschema:"minimum=1,maximum=1048576"`
	// Table is the kind of partition table, gpt or mbr, one that the boot loader reads: grub
	// reads gpt. An mbr has up to four partitions, without names.
	Table string `yaml:"table" json:"table"`
	// Partitions are in the order of their offsets.
	Partitions []Partition `yaml:"partitions" json:"partitions"`
}

// Partition is one entry of the partition table.
type Partition struct {
	// Name is the partition's name in the table and the label of its file system.
	Name string `yaml:"name" json:"name"`
	// Role is boot (the loader's files) or root (the storage).
	Role string `yaml:"role" json:"role"`
	// Format is fat32 or ext4.
	Format string `yaml:"format" json:"format"`
	// Start is the offset in MiB. Default: the end of the partition before, 1 for the
	// first.
	Start int `yaml:"start,omitempty" json:"start,omitempty" jsonschema:"minimum=0,maximum=1048576"`
	// Size is in MiB. 0 is the remaining space, allowed for the last partition only.
	Size int `yaml:"size,omitempty" json:"size,omitempty" jsonschema:"minimum=0,maximum=1048576"`
}

// AppEngine is the package of a target without its own machine.
type AppEngine struct {
	// Suite is the Debian suite that the containers' programs come from.
	Suite string `yaml:"suite" json:"suite"`
}

// Addon is one archive for the initrd, addon-NAME.cpio.xz4: the files of a directory, or one
// program. It has either Directory or Program.
type Addon struct {
	// Name is that in the archive's name.
	Name string `yaml:"name" json:"name"`
	// Directory holds what is added to the root of the initrd, relative to the workspace, for
	// example addons/NAME.
	Directory string `yaml:"directory,omitempty" json:"directory,omitempty"`
	// Program is a main package's directory in the workspace's module, for example cmd/agent.
	Program string `yaml:"program,omitempty" json:"program,omitempty"`
	// Path is where the program goes, without a leading '/'. Default: usr/bin and the last
	// part of Program.
	Path string `yaml:"path,omitempty" json:"path,omitempty"`
}

// Partition returns the first partition of the image with a role, nil when there is no
// such one.
func (t *Target) Partition(role string) *Partition {
	if t.Image == nil {
		return nil
	}
	for i := range t.Image.Partitions {
		if t.Image.Partitions[i].Role == role {
			return &t.Image.Partitions[i]
		}
	}
	return nil
}

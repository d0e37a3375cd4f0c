// Package targets holds the boards that images can be made for: one YAML file per target,
// loaded into [Target] and checked as a whole. A new kernel source, boot loader,
// partition table, role or format is an entry in values.go.
package targets

// Target is one YAML file of this directory, "<name>/target.yaml". The smallest one
// has a description and an arch: that is a BSP-only target.
type Target struct {
	// Name is the directory's name, followed by '-' and the name of a build; it is not in the
	// file. Definition is the directory's name, beside whose file the lock is.
	Name       string `yaml:"-" json:"-"`
	Definition string `yaml:"-" json:"-"`
	// Description is one line for people.
	Description string `yaml:"description" json:"description"`
	// Base is another target: each field that is not here is as there, each that is here
	// replaces that one as a whole. The platform is that of the base.
	Base string `yaml:"base,omitempty" json:"base,omitempty" jsonschema:"anyof_required=base"`
	// Arch is the CPU in Go's terms. Only a target with a base may omit it.
	Arch Arch `yaml:"arch,omitempty" json:"arch" jsonschema:"anyof_required=arch"`
	// Aliases are further names of the target.
	Aliases []string `yaml:"aliases,omitempty" json:"aliases,omitempty"`
	// Platform names the directories config/<platform> and vendors/<platform>.
	// Default: the target's name.
	Platform string `yaml:"platform,omitempty" json:"platform,omitempty"`
	// Kernel is where kernel, modules and firmware come from. Absent in targets without a
	// kernel (App Engine).
	Kernel *Kernel `yaml:"kernel,omitempty" json:"kernel,omitempty"`
	// Bootloader is what loads the kernel. Absent when no disk is made.
	Bootloader *Bootloader `yaml:"bootloader,omitempty" json:"bootloader,omitempty"`
	// Images are the flashable media: in the file one block, or a list. The first is the
	// main one. Absent: only the BSP export is made.
	Images Images `yaml:"image,omitempty" json:"image,omitempty"`
	// AppEngine makes a package with the runtime as a daemon for an existing Linux
	// system, in place of kernel, boot loader and image.
	AppEngine *AppEngine `yaml:"appengine,omitempty" json:"appengine,omitempty"`
	// Rootfs makes an archive of the storage with revision 0, for a vendor's tool that makes the
	// file system and writes the boot loader.
	Rootfs bool `yaml:"rootfs,omitempty" json:"rootfs,omitempty"`
	// Tezi makes a bundle for the Toradex Easy Installer.
	Tezi *Tezi `yaml:"tezi,omitempty" json:"tezi,omitempty"`
	// Parts are files that no package has: a vendor's first stages, kernel or tools. Whoever
	// has them names them (docs/targets.md); until then the target makes what needs none.
	Parts map[string]Part `yaml:"parts,omitempty" json:"parts,omitempty"`
	// Containers are the starter containers of the default reference device, by
	// the names under containers/.
	Containers []string `yaml:"containers,omitempty" json:"containers,omitempty"`
	// Provides is what containers may rely on beside the architecture, the board's name and the
	// kernel's release, which are added: kernel:squashfs, camera=2 (docs/targets.md).
	Provides []string `yaml:"provides,omitempty" json:"provides,omitempty"`
	// Requires is what the board needs of containers, for example container:web>=1.2.
	Requires []string `yaml:"requires,omitempty" json:"requires,omitempty"`
	// Conflicts is what must not be on a device with this board.
	Conflicts []string `yaml:"conflicts,omitempty" json:"conflicts,omitempty"`
	// Support says for how long, and by whom, vulnerabilities of the product are handled.
	Support *Support `yaml:"support,omitempty" json:"support,omitempty"`
	// Addons are archives that are loaded after the base initrd, in this order.
	Addons []Addon `yaml:"addons,omitempty" json:"addons,omitempty"`
	// Budgets are the most that image, partitions, initrd and others may take.
	Budgets *Budgets `yaml:"budgets,omitempty" json:"budgets,omitempty"`
	// Debug adds a shell on the console, as PANTAVISOR_DEBUG=yes does.
	Debug bool `yaml:"debug,omitempty" json:"debug,omitempty"`
	// Installer is set for a build that makes the medium that installs the target's image.
	Installer *Installer `yaml:"-" json:"-"`
	// Builds are variants of the target, by name: each is a target TARGET-NAME that has the
	// fields of its build in place of those of the target. TARGET-default is the target itself.
	Builds map[string]Build `yaml:"builds,omitempty" json:"builds,omitempty"`
	// Emulators are the machines in which `mage run` and the VM tests start the image:
	// one machine, or a list of named machines.
	Emulators Emulators `yaml:"emulator,omitempty" json:"emulator,omitempty"`
	// EmulatedBy is, for a target that QEMU has no machine for, the closest target that has one.
	EmulatedBy string `yaml:"emulated_by,omitempty" json:"emulated_by,omitempty"`
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
	// Source is where it comes from: debian, packages of Debian; debian-source, compiled from
	// Debian's source; tree, compiled from a source of your own; files, a named part; buildroot,
	// from the output directory of a build with Buildroot; yocto, deployed by a build with Yocto.
	Source string `yaml:"source" json:"source"`
	// Suite is the Debian suite, for example bookworm.
	Suite string `yaml:"suite,omitempty" json:"suite,omitempty"`
	// Package is the kernel's meta package, for example linux-image-amd64.
	Package string `yaml:"package,omitempty" json:"package,omitempty"`
	// Part is the named part with the kernel for source: files, a tarball as the kernel's own
	// "make tarxz-pkg" writes it: boot/vmlinuz-RELEASE, boot/config-RELEASE, boot/dtbs/RELEASE,
	// lib/modules/RELEASE. For source: tree it is a tarball with the source.
	Part string `yaml:"part,omitempty" json:"part,omitempty"`
	// Dir is, for source: tree, the directory with the source, and for source: buildroot the
	// output directory: relative to the repository, or absolute.
	Dir string `yaml:"dir,omitempty" json:"dir,omitempty"`
	// Image is, for source: yocto, the recipe of an image that was built; Dir is then the deploy
	// directory.
	Image string `yaml:"image,omitempty" json:"image,omitempty"`
	// Machine is, for source: yocto, the MACHINE of the build.
	Machine string `yaml:"machine,omitempty" json:"machine,omitempty"`
	// Defconfig is the configuration of the source that Fragments change, for example
	// multi_v7_defconfig. Without one, what no fragment asks for is off.
	Defconfig string `yaml:"defconfig,omitempty" json:"defconfig,omitempty"`
	// Fragments are parts of the configuration of a kernel that is compiled, by the names of
	// files kernel/fragments/NAME.config, after those for every board. Of two that name one
	// option the later one counts.
	Fragments []string `yaml:"fragments,omitempty" json:"fragments,omitempty"`
	// Patches are files of kernel/patches, applied to the source in this order.
	Patches []string `yaml:"patches,omitempty" json:"patches,omitempty"`
	// Format is the form of the kernel in the BSP: Image, Image.gz, zImage, bzImage, uImage,
	// vmlinux or FIT. Default: as the source has it.
	Format string `yaml:"format,omitempty" json:"format,omitempty"`
	// DeviceTrees are files below the kernel's directory dtbs/. A single one is that of the
	// revision; of several U-Boot takes the one that its variable fdtfile names.
	DeviceTrees []string `yaml:"device_trees,omitempty" json:"device_trees,omitempty"`
	// Overlays are further files there, applied to the device tree in this order.
	Overlays []string `yaml:"overlays,omitempty" json:"overlays,omitempty"`
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
	// Type is its name: grub, uboot, efiab, or one of the firmware of the Raspberry Pi: rpi,
	// rpi-uboot, rpiab.
	Type string `yaml:"type" json:"type"`
	// Suite is the Debian suite that its parts come from.
	Suite string `yaml:"suite,omitempty" json:"suite,omitempty"`
	// Packages are the Debian packages that hold its parts.
	Packages []string `yaml:"packages,omitempty" json:"packages,omitempty"`
	// Blobs are written to the medium outside of file systems, where earlier stages look for
	// them.
	Blobs []Blob `yaml:"blobs,omitempty" json:"blobs,omitempty"`
	// Files are further files for the partitions that firmware reads.
	Files []File `yaml:"files,omitempty" json:"files,omitempty"`
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
	// Flash is where U-Boot sees memory-mapped flash; type: uboot-flash needs it. With uboot-ab,
	// the default is that slots are read by name with U-Boot's command mtd.
	Flash int64 `yaml:"flash,omitempty" json:"flash,omitempty" jsonschema:"minimum=0,maximum=1099511627775"`
}

// Runtime returns PV_BOOTLOADER_TYPE, the runtime's name of the loader's handshake. Loaders
// that differ only in how the kernel is started share one.
func (b *Bootloader) Runtime() string {
	v, _ := lookup(values["bootloader.type"], b.Type)
	return v.loader.runtime
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

// Package inputs composes firmware from an explicit list of its inputs, inputs.json: kernel,
// root file systems and all else as files and directories of this machine, wherever they were
// built. It looks nothing up: no archive, no environment, no pattern of file names, no clock.
//
// [Read] reads and checks a list, [List.Digest] reads all inputs and compares their digests,
// and [List.Inputs] turns the list into the inputs that package images composes.
// docs/compose.md describes the file.
package inputs

import "github.com/pantavisor/pantavisor/targets"

// Spec is the value of "#spec" in a list.
const Spec = "pantavisor-inputs@1"

// List is the list of all inputs of a firmware. Paths in it are absolute, or relative to the
// directory of its file. A sha256 may be left out; the list that a composition leaves beside its
// results has all of them.
type List struct {
	// Spec is the version of the form: pantavisor-inputs@1.
	Spec string `yaml:"#spec" json:"#spec" jsonschema:"enum=pantavisor-inputs@1"`
	// Target is the name of the firmware: used in file names, in build.json, and as the seed of
	// identifiers.
	Target string `yaml:"target" json:"target"`
	// Release is the version of the firmware.
	Release string `yaml:"release,omitempty" json:"release,omitempty"`
	// Epoch is the time of everything composed, in seconds since 1970. The clock is never used.
	Epoch int64 `yaml:"epoch" json:"epoch" jsonschema:"minimum=0,maximum=4294967295"`
	// Arch is the CPU in Go's terms.
	Arch targets.Arch `yaml:"arch" json:"arch"`
	// Outputs are what is made: image, export (the BSP), revision (the whole of revision 0 as an
	// export), rootfs (the storage as an archive), appengine, installer (the medium that installs
	// the image), tezi (the bundle for the Toradex Easy Installer), containers (each of Containers
	// as an export, unsigned).
	Outputs []string `yaml:"outputs" json:"outputs" jsonschema:"enum=image,enum=export,enum=revision,enum=rootfs,enum=appengine,enum=installer,enum=tezi,enum=containers"`
	// Board is what the BSP says of itself to containers.
	Board *Board `yaml:"board,omitempty" json:"board,omitempty"`
	// Pipeline is where the source comes from, for build.json.
	Pipeline *Pipeline `yaml:"pipeline,omitempty" json:"pipeline,omitempty"`
	// Support is what the manufacturer promises to users, for build.json and the bills of materials.
	Support *targets.Support `yaml:"support,omitempty" json:"support,omitempty"`
	// Packages are lines for /etc/build of the initrd, one for each package in the firmware.
	Packages []string `yaml:"packages,omitempty" json:"packages,omitempty"`
	// Runtime is the device binary, cmd/pantavisor for the architecture: for the initrd of a
	// kernel, and for an App Engine.
	Runtime *File `yaml:"runtime,omitempty" json:"runtime,omitempty"`
	// Kernel is the kernel with its modules and firmware. Absent in an App Engine, and when the
	// BSP is in one of the exports.
	Kernel *Kernel `yaml:"kernel,omitempty" json:"kernel,omitempty"`
	// Addons are archives that are loaded after the base initrd, in this order.
	Addons []Addon `yaml:"addons,omitempty" json:"addons,omitempty"`
	// Containers are made from root file systems.
	Containers []Container `yaml:"containers,omitempty" json:"containers,omitempty"`
	// Exports are parts of revision 0 that are finished: files as pvr export writes them. No two
	// inputs may have the same part.
	Exports []File `yaml:"exports,omitempty" json:"exports,omitempty"`
	// Config are the files of configuration.
	Config Config `yaml:"config" json:"config"`
	// Images are the media: one block, or a list, as in a target's file.
	Images targets.Images `yaml:"image,omitempty" json:"image,omitempty"`
	// Bootloader is what loads the kernel.
	Bootloader *Bootloader `yaml:"bootloader,omitempty" json:"bootloader,omitempty"`
	// Installer is the medium that installs the image, for the output installer.
	Installer *Installer `yaml:"installer,omitempty" json:"installer,omitempty"`
	// Tezi is the bundle for the Toradex Easy Installer, for the output tezi.
	Tezi *Tezi `yaml:"tezi,omitempty" json:"tezi,omitempty"`
	// Signing signs the parts of revision 0.
	Signing *Signing `yaml:"signing,omitempty" json:"signing,omitempty"`
	// SBOM are documents of whoever built the inputs, in JSON, or tables in CSV, whose names end
	// in .csv. They are delivered beside the results as sbom/NAME, as they are, and sbom.json refers
	// to them by their digests.
	SBOM []Named `yaml:"sbom,omitempty" json:"sbom,omitempty"`
	// VEX are statements about vulnerabilities, in OpenVEX or CycloneDX. They are delivered beside the
	// results as vex/NAME, as they are.
	VEX []Named `yaml:"vex,omitempty" json:"vex,omitempty"`

	dir string `yaml:"-"` // of the file, for relative paths
}

// File is a regular file.
type File struct {
	// Path is where it is on this machine.
	Path string `yaml:"path" json:"path"`
	// SHA256 is its digest, 64 hexadecimal digits.
	SHA256 string `yaml:"sha256,omitempty" json:"sha256,omitempty"`
}

// Named is a regular file that goes somewhere under a name.
type Named struct {
	// Name is where it goes.
	Name string `yaml:"name" json:"name"`
	// Path is where it is on this machine.
	Path string `yaml:"path" json:"path"`
	// SHA256 is its digest.
	SHA256 string `yaml:"sha256,omitempty" json:"sha256,omitempty"`
}

// Directory is a directory with everything below it.
type Directory struct {
	// Path is where it is on this machine.
	Path string `yaml:"path" json:"path"`
	// SHA256 is the digest over the names, types, permissions, link targets and contents of
	// all below it, as pvcompose check prints it.
	SHA256 string `yaml:"sha256,omitempty" json:"sha256,omitempty"`
}

// Tree is a tree of files in one of several forms.
type Tree struct {
	// Form is that of Path: directory, tar (plain, or compressed with gzip, xz, zstd or bzip2),
	// cpio (the same), squashfs, or oci, the directory of an OCI image layout. Not all trees
	// can have all forms.
	Form string `yaml:"form" json:"form" jsonschema:"enum=directory,enum=tar,enum=cpio,enum=squashfs,enum=oci"`
	// Path is where it is on this machine.
	Path string `yaml:"path" json:"path"`
	// SHA256 is the digest of the file, or of the directory as pvcompose check prints it.
	SHA256 string `yaml:"sha256,omitempty" json:"sha256,omitempty"`
}

// Board is what a BSP says of itself: provides, requires and conflicts as in a target's file.
type Board struct {
	// Name of the board. Default: that of the target.
	Name string `yaml:"name,omitempty" json:"name,omitempty"`
	// Provides is what containers may rely on.
	Provides []string `yaml:"provides,omitempty" json:"provides,omitempty"`
	// Requires is what the board needs of containers.
	Requires []string `yaml:"requires,omitempty" json:"requires,omitempty"`
	// Conflicts is what must not be on a device with this board.
	Conflicts []string `yaml:"conflicts,omitempty" json:"conflicts,omitempty"`
}

// Pipeline is where the source of a firmware comes from.
type Pipeline struct {
	// Project is the name of the repository.
	Project string `yaml:"project,omitempty" json:"project,omitempty"`
	// Branch is that of the repository.
	Branch string `yaml:"branch,omitempty" json:"branch,omitempty"`
	// Commit is that of the repository.
	Commit string `yaml:"commit,omitempty" json:"commit,omitempty"`
	// ID is that of the pipeline.
	ID string `yaml:"id,omitempty" json:"id,omitempty"`
}

// Kernel is a kernel with its modules and firmware.
type Kernel struct {
	// Image is what the boot loader starts.
	Image File `yaml:"image" json:"image"`
	// Config is the kernel's configuration. It is compared with what the runtime needs.
	Config *File `yaml:"config,omitempty" json:"config,omitempty"`
	// Release is that of a kernel without modules (uname -r). Default: that of the modules.
	Release string `yaml:"release,omitempty" json:"release,omitempty"`
	// Modules is a tree with lib/modules/RELEASE, as "make modules_install" writes it: a
	// directory, tar or squashfs. Absent: the kernel has all that it needs built in.
	Modules *Tree `yaml:"modules,omitempty" json:"modules,omitempty"`
	// DeviceTrees are those of the boards; Name is the path below the kernel's directory of
	// device trees, as in a target's file.
	DeviceTrees []Named `yaml:"device_trees,omitempty" json:"device_trees,omitempty"`
	// Overlays are applied to the device tree in this order.
	Overlays []Named `yaml:"overlays,omitempty" json:"overlays,omitempty"`
	// Format is FIT for a kernel that is joined with initrd and device trees in one file.
	// Default: the image as it is.
	Format string `yaml:"format,omitempty" json:"format,omitempty" jsonschema:"enum=FIT"`
	// Arguments are appended to the kernel's command line by the boot loader's script.
	Arguments []string `yaml:"arguments,omitempty" json:"arguments,omitempty"`
	// EarlyModules go into the initrd with their dependencies.
	EarlyModules []string `yaml:"early_modules,omitempty" json:"early_modules,omitempty"`
	// Firmware has the files that modules name.
	Firmware *Firmware `yaml:"firmware,omitempty" json:"firmware,omitempty"`
	// SBOM is the bill of materials of a BSP that was made of the same files, an object
	// bsp/sbom.spdx.zst: its packages become those of this one. Default: one package for each
	// input.
	SBOM *File `yaml:"sbom,omitempty" json:"sbom,omitempty"`
}

// Firmware picks firmware files for firmware.squashfs.
type Firmware struct {
	// Trees have the files below lib/firmware: directories or tars, the first one that has a
	// file wins.
	Trees []Tree `yaml:"trees" json:"trees"`
	// Budget limits the size of the uncompressed files, in MiB. Default: no limit.
	Budget int `yaml:"budget,omitempty" json:"budget,omitempty" jsonschema:"minimum=1,maximum=4096"`
	// Exclude lists patterns of files below lib/firmware to leave out.
	Exclude []string `yaml:"exclude,omitempty" json:"exclude,omitempty"`
}

// Addon is one archive for the initrd, addon-NAME.cpio.xz4: finished, or the files of a
// directory.
type Addon struct {
	// Name is that in the archive's name.
	Name string `yaml:"name" json:"name"`
	// Archive is a finished one.
	Archive *File `yaml:"archive,omitempty" json:"archive,omitempty"`
	// Directory holds what is added to the root of the initrd.
	Directory *Directory `yaml:"directory,omitempty" json:"directory,omitempty"`
}

// Container is made from a root file system.
type Container struct {
	// Name is that of its part of the revision.
	Name string `yaml:"name" json:"name"`
	// Root is the root file system. A squashfs is taken as it is; what the others hold is
	// written as one.
	Root Tree `yaml:"root" json:"root"`
	// Compression is that of the squashfs: zstd, xz or gzip. Default: zstd.
	Compression string `yaml:"compression,omitempty" json:"compression,omitempty" jsonschema:"enum=zstd,enum=xz,enum=gzip"`
	// Block is the size of a block of the squashfs, a power of two from 4KiB to 1MiB. Default:
	// 128KiB.
	Block targets.Size `yaml:"block,omitempty" json:"block,omitempty"`
	// Exclude are paths in the root file system that are left out, with all that is below them.
	Exclude []string `yaml:"exclude,omitempty" json:"exclude,omitempty"`
	// Verity adds the dm-verity hash tree of the root file system, through which devices mount it
	// that have a handler for it. The runtime has none yet: in its firmware it wants
	// PV_SECUREBOOT_HANDLERS=0.
	Verity bool `yaml:"verity,omitempty" json:"verity,omitempty"`
	// Entrypoint is the beginning of the program's command line. Default for this and the next
	// fields: those of the OCI image.
	Entrypoint []string `yaml:"entrypoint,omitempty" json:"entrypoint,omitempty"`
	// Command is the end of the program's command line.
	Command []string `yaml:"command,omitempty" json:"command,omitempty"`
	// Env are variables of its environment: NAME=VALUE.
	Env []string `yaml:"env,omitempty" json:"env,omitempty"`
	// WorkingDir is its working directory.
	WorkingDir string `yaml:"working_dir,omitempty" json:"working_dir,omitempty"`
	// User is whom it runs as: USER or USER:GROUP, names or numbers.
	User string `yaml:"user,omitempty" json:"user,omitempty"`
	// Args are the container's arguments, PV_GROUP for example (docs/containers.md).
	Args map[string]any `yaml:"args,omitempty" json:"args,omitempty"`
	// Persistence are volumes by their paths: permanent, revision or boot.
	Persistence map[string]string `yaml:"persistence,omitempty" json:"persistence,omitempty"`
	// Config is a JSON file with the configuration of an image (OCI: config), whose members take
	// the place of those of Root. Fields of the list take the place of both.
	Config *File `yaml:"config,omitempty" json:"config,omitempty"`
	// Services is the part's services.json, MDEV its mdev.json (manual: container, xconnect).
	Services *File `yaml:"services,omitempty" json:"services,omitempty"`
	MDEV     *File `yaml:"mdev,omitempty" json:"mdev,omitempty"`
	// Network is a JSON file with the member network of run.json. Default: what the arguments
	// PV_NETWORK_… say.
	Network *File `yaml:"network,omitempty" json:"network,omitempty"`
	// Overlay is a directory whose files the container sees above its root file system: the part
	// _config/NAME of the revision.
	Overlay *Directory `yaml:"overlay,omitempty" json:"overlay,omitempty"`
}

// Config lists the files of configuration.
type Config struct {
	// Runtime is pantavisor.config, Hub is pantahub.config, Image is image.config.
	Runtime File  `yaml:"runtime" json:"runtime"`
	Hub     File  `yaml:"hub" json:"hub"`
	Image   *File `yaml:"image,omitempty" json:"image,omitempty"`
	// Settings are keys of the runtime's configuration that follow from other inputs. They must
	// not contradict the file. With bootloader.type those of the loader are added.
	Settings []Setting `yaml:"settings,omitempty" json:"settings,omitempty"`
	// Defaults has groups.json and the policies.
	Defaults Directory `yaml:"defaults" json:"defaults"`
	// Skel goes into the initrd, Stepskel into revision 0.
	Skel     *Directory `yaml:"skel,omitempty" json:"skel,omitempty"`
	Stepskel *Directory `yaml:"stepskel,omitempty" json:"stepskel,omitempty"`
	// Trust are certificates and keys that signatures are checked against, by their name in
	// /etc/pantavisor/pvs/trust.
	Trust []Named `yaml:"trust,omitempty" json:"trust,omitempty"`
	// FactoryToken is a file with the token with which devices claim themselves.
	FactoryToken *File `yaml:"factory_token,omitempty" json:"factory_token,omitempty"`
}

// Setting is a key of the runtime's configuration with its value.
type Setting struct {
	// Key is its name, PV_BOOTLOADER_TYPE for example.
	Key string `yaml:"key" json:"key"`
	// Value is the text behind the equals sign.
	Value string `yaml:"value" json:"value"`
}

// Bootloader is what loads the kernel. With a type, its script, configuration and state are
// made; without one, all of its files are given.
type Bootloader struct {
	// Type is its name, as in a target's file: grub, uboot, uboot-ab, uboot-flash, extlinux, rpi,
	// rpi-uboot, rpiab, efiab.
	Type string `yaml:"type,omitempty" json:"type,omitempty" jsonschema:"enum=grub,enum=uboot,enum=uboot-ab,enum=uboot-flash,enum=extlinux,enum=rpi,enum=rpi-uboot,enum=rpiab,enum=efiab"`
	// Addresses are where U-Boot loads to.
	Addresses *targets.Addresses `yaml:"addresses,omitempty" json:"addresses,omitempty"`
	// Timeout is how long GRUB waits for a key, in seconds.
	Timeout int `yaml:"timeout,omitempty" json:"timeout,omitempty" jsonschema:"minimum=0,maximum=3600"`
	// Packages are directories with the content of the packages that the type needs: for rpi,
	// rpi-uboot and rpiab raspi-firmware, for efiab systemd-boot-efi, as Debian has them.
	Packages []Package `yaml:"packages,omitempty" json:"packages,omitempty"`
	// Files are those of the partitions that firmware reads.
	Files []BootFile `yaml:"files,omitempty" json:"files,omitempty"`
	// Trees are directories with all files of such a partition.
	Trees []BootTree `yaml:"trees,omitempty" json:"trees,omitempty"`
	// Blobs are written outside of file systems.
	Blobs []Blob `yaml:"blobs,omitempty" json:"blobs,omitempty"`
	// State is a directory whose files are added to the storage: the first state of the
	// handshake with the runtime.
	State *Directory `yaml:"state,omitempty" json:"state,omitempty"`
	// Slot is set when the BSP has the boot partition of the loader in place of kernel and
	// initrd.
	Slot *Slot `yaml:"slot,omitempty" json:"slot,omitempty"`
}

// Package is the content of a package.
type Package struct {
	// Name is Debian's.
	Name string `yaml:"name" json:"name"`
	// Path is the directory.
	Path string `yaml:"path" json:"path"`
	// SHA256 is the digest of the directory.
	SHA256 string `yaml:"sha256,omitempty" json:"sha256,omitempty"`
	// Place is which directory of the package Path is: usr/lib/raspi-firmware for one that has
	// the files of the Raspberry Pi's firmware alone. Default: its root.
	Place string `yaml:"place,omitempty" json:"place,omitempty"`
}

// BootFile is a file of a partition.
type BootFile struct {
	// To is its path on the partition, without a leading '/'.
	To string `yaml:"to" json:"to"`
	// Path is where it is on this machine.
	Path string `yaml:"path" json:"path"`
	// SHA256 is its digest.
	SHA256 string `yaml:"sha256,omitempty" json:"sha256,omitempty"`
	// Role is that of the partition. Default: boot.
	Role string `yaml:"role,omitempty" json:"role,omitempty"`
}

// BootTree is a directory for a partition.
type BootTree struct {
	// Role is that of the partition.
	Role string `yaml:"role" json:"role"`
	// Path is the directory.
	Path string `yaml:"path" json:"path"`
	// SHA256 is the digest of the directory.
	SHA256 string `yaml:"sha256,omitempty" json:"sha256,omitempty"`
}

// Blob is content outside of file systems, as in a target's file. It has one of Sector, Offset
// and Partition.
type Blob struct {
	// Name is for people: spl.
	Name string `yaml:"name" json:"name"`
	// Path is where it is on this machine.
	Path string `yaml:"path" json:"path"`
	// SHA256 is its digest.
	SHA256 string `yaml:"sha256,omitempty" json:"sha256,omitempty"`
	// Skip is how much of its beginning is left out.
	Skip targets.Size `yaml:"skip,omitempty" json:"skip,omitempty"`
	// Length is how much of the rest is taken. Default: all of it.
	Length targets.Size `yaml:"length,omitempty" json:"length,omitempty"`
	// Swap reverses the bytes of each word of 32 bits.
	Swap bool `yaml:"swap,omitempty" json:"swap,omitempty"`
	// Sector is where it begins, in sectors of 512 bytes.
	Sector *int64 `yaml:"sector,omitempty" json:"sector,omitempty" jsonschema:"minimum=0,maximum=2147483648"`
	// Offset is where it begins, as a size.
	Offset *targets.Size `yaml:"offset,omitempty" json:"offset,omitempty"`
	// Partition is the one with format raw that it fills from its start.
	Partition string `yaml:"partition,omitempty" json:"partition,omitempty"`
	// Max is the space reserved for it. Required, except with Partition and Length.
	Max targets.Size `yaml:"max,omitempty" json:"max,omitempty"`
}

// Slot is the boot partition that the BSP has as an image.
type Slot struct {
	// Role is that of the partition.
	Role string `yaml:"role" json:"role"`
	// Key is the member of run.json that names the image.
	Key string `yaml:"key" json:"key"`
	// File is the name of the image in the BSP.
	File string `yaml:"file" json:"file"`
}

// Installer is a medium that installs the first image on a disk of the machine that is booted
// from it. On its one partition are the image, the kernel and an initrd of its own.
type Installer struct {
	// File is the name of the output. Default: TARGET-installer-pv-SIZEMiB.img.
	File string `yaml:"file,omitempty" json:"file,omitempty"`
	// Size is that of the medium in MiB. Default: 1024.
	Size int `yaml:"size,omitempty" json:"size,omitempty" jsonschema:"minimum=64,maximum=1048576"`
	// Program is process 1, cmd/pv-installer for the architecture.
	Program File `yaml:"program" json:"program"`
	// Tree is a directory with the boot loader's files for the partition. The loader starts the
	// files kernel and initrd of the same partition: nothing is written outside of it, so it is
	// one that the machine's firmware reads.
	Tree Directory `yaml:"tree" json:"tree"`
}

// Tezi is a bundle for the Toradex Easy Installer, which makes partitions and file systems
// itself. Their names and roles are those of the image.
type Tezi struct {
	// Name is what the installer shows. Default: that of the target.
	Name string `yaml:"name,omitempty" json:"name,omitempty"`
	// Modules are what the bundle can be installed on.
	Modules []TeziModule `yaml:"modules" json:"modules"`
}

// TeziModule is a kind of modules that are installed in the same way, as in a target's file.
type TeziModule struct {
	// Name is that in image-NAME.json and uEnv.NAME.txt.
	Name string `yaml:"name" json:"name"`
	// Products are Toradex's product numbers, for example "0014".
	Products []string `yaml:"products" json:"products"`
	// Flash is emmc, or nand for raw flash with UBI. Default: emmc.
	Flash string `yaml:"flash,omitempty" json:"flash,omitempty" jsonschema:"enum=emmc,enum=nand"`
	// Volume is the name of the storage's UBI volume on raw flash. Default: boot.
	Volume string `yaml:"volume,omitempty" json:"volume,omitempty"`
	// Blobs are the stages of the boot loader.
	Blobs []TeziBlob `yaml:"blobs,omitempty" json:"blobs,omitempty"`
	// Environment are lines of uEnv.NAME.txt, U-Boot's variables that the installer sets.
	Environment []string `yaml:"environment,omitempty" json:"environment,omitempty"`
}

// TeziBlob is a stage of the boot loader: at a sector or an offset of the eMMC's boot area, or in
// a partition of the raw flash. The bundle has it as MODULE.FILE, with the name of the file here.
type TeziBlob struct {
	// Name is for people: spl.
	Name string `yaml:"name" json:"name"`
	// Path is where it is on this machine.
	Path string `yaml:"path" json:"path"`
	// SHA256 is its digest.
	SHA256 string `yaml:"sha256,omitempty" json:"sha256,omitempty"`
	// Sector is where it begins, in sectors of 512 bytes.
	Sector *int64 `yaml:"sector,omitempty" json:"sector,omitempty" jsonschema:"minimum=0,maximum=2147483648"`
	// Offset is where it begins, as a size.
	Offset *targets.Size `yaml:"offset,omitempty" json:"offset,omitempty"`
	// Partition is that of the raw flash.
	Partition string `yaml:"partition,omitempty" json:"partition,omitempty"`
}

// Signing signs each part of revision 0 with a key, or with a command that has one.
type Signing struct {
	// Key is a PEM file with the private key.
	Key *File `yaml:"key,omitempty" json:"key,omitempty"`
	// Command is a line for the shell that reads Input from its standard input and writes the
	// signature to its standard output, pkcs11-tool for a key in a token. It is the only program
	// that is ever run.
	Command string `yaml:"command,omitempty" json:"command,omitempty"`
	// Input is what the command reads: digest, the SHA-256 (or that of the curve) as bytes;
	// digest-info, the same in the form of PKCS #1, for the mechanism RSA-PKCS; or message, all
	// that is to be signed. Default: digest.
	Input string `yaml:"input,omitempty" json:"input,omitempty" jsonschema:"enum=digest,enum=digest-info,enum=message"`
	// Chain is a PEM file with the certificates of the key, its own first.
	Chain *File `yaml:"chain,omitempty" json:"chain,omitempty"`
	// Parts are those to sign. Default: all, the BSP and each container.
	Parts []string `yaml:"parts,omitempty" json:"parts,omitempty"`
}

package images

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/sbom"
)

// Inputs is the complete list of the inputs of a firmware. Nothing else affects the
// result: [Compose] reads neither target nor environment nor archive. As JSON it has, for
// each input, the step that makes it or its path on this machine.
//
// Package resolve makes it from a target; callers with parts from elsewhere fill it in
// themselves.
type Inputs struct {
	// Target is the name of the firmware: used in file names, in build.json, and as the
	// seed of identifiers.
	Target string `json:"target"`
	// Release is the version of the firmware; may be empty.
	Release string `json:"release,omitempty"`
	// Pipeline is where the source comes from, for build.json.
	Pipeline Pipeline `json:"pipeline,omitzero"`
	// FactoryToken goes into pantahub.config; may be empty.
	FactoryToken Secret `json:"factory_token,omitempty"`
	// Packages are the pinned packages in it, for /etc/build.
	Packages []string `json:"packages,omitempty"`
	// X86 is set when the code is for x86: compressors then filter its branches.
	X86 bool `json:"x86,omitempty"`
	// Epoch is the time of everything composed.
	Epoch build.Stamp `json:"epoch"`
	// Outputs are the wanted outputs.
	Outputs []Output `json:"outputs"`

	// Board is what the BSP says of itself, for devices and containers.
	Board Board `json:"board,omitzero"`

	// Support is what is promised to users, for build.json and the bills of materials.
	Support sbom.Support `json:"support,omitzero"`

	// Runtime is the device binary.
	Runtime Artefact `json:"runtime"`
	// Kernel is nil in an App Engine, and when the BSP comes from a reference device.
	Kernel *Kernel `json:"kernel,omitempty"`
	// Addons are archives to load after the base initrd, in order.
	Addons []Addon `json:"addons,omitempty"`
	// Containers are the parts of revision 0 that hold containers: each output has a
	// state fragment "json" and the directory "objects". A later part replaces keys of an
	// earlier one.
	Containers []Artefact `json:"containers,omitempty"`

	// Distinct is set when no two of BSP and Containers may have the same part of the state.
	Distinct bool `json:"distinct,omitempty"`
	// Signer signs the parts of revision 0; nil for nobody.
	Signer Signer `json:"-"`

	// Config are the files of configuration.
	Config Config `json:"config"`

	// Layouts are those of the media, the main one first; none when no image is made.
	Layouts []Layout `json:"layouts,omitempty"`
	// Loader is what the boot loader needs on the medium.
	Loader Loader `json:"loader"`
	// Tezi is nil when no bundle for the Toradex Easy Installer is made.
	Tezi *Tezi `json:"tezi,omitempty"`
	// Installer is nil when no installation medium is made.
	Installer *Installer `json:"installer,omitempty"`

	// BSPSBOM is a bill of materials of the BSP (package part) of which the packages are taken, where
	// the steps do not say what they bring in; nil for none.
	BSPSBOM *Artefact `json:"bsp_sbom,omitempty"`

	// Received are bills of materials of whoever built the inputs.
	Received []Received `json:"received,omitempty"`
	// VEX are statements about vulnerabilities, which are delivered in [VEXDir].
	VEX []Received `json:"vex,omitempty"`
	// MergedSBOM takes those in a directory; nil for none.
	MergedSBOM *MergeSBOM `json:"-"`

	bsp   *BSP
	sboms map[build.Step]*PartSBOM
}

// Received is a document that is kept as it is.
type Received struct {
	// Name is its file's name: of a bill of materials, beside the image's own document.
	Name string   `json:"name"`
	From Artefact `json:"from"`
}

// Board is what a BSP says of itself (package compat). To what it provides come the
// architecture, the board's name and the release of the kernel.
type Board struct {
	Name string `json:"name"`
	// Arch is Go's name of the architecture.
	Arch      string   `json:"arch"`
	Provides  []string `json:"provides,omitempty"`
	Requires  []string `json:"requires,omitempty"`
	Conflicts []string `json:"conflicts,omitempty"`
}

// Kernel is a kernel with its modules and firmware.
type Kernel struct {
	// Image is what the boot loader starts.
	Image Artefact `json:"image"`
	// Tree has lib/modules/RELEASE with its index, and boot/config-RELEASE for the check
	// of options: a tree as package kernel describes it.
	Tree Artefact `json:"tree"`
	// DeviceTrees are those of the boards.
	DeviceTrees []DeviceTree `json:"device_trees,omitempty"`
	// FIT says how all of them are joined in one file; nil when they stay files of their own.
	FIT *FITForm `json:"fit,omitempty"`
	// EarlyModules go into the initrd with their dependencies.
	EarlyModules []string `json:"early_modules,omitempty"`
	// Firmware is nil when the BSP has none.
	Firmware *Firmware `json:"firmware,omitempty"`
}

// DeviceTree is the device tree of a board.
type DeviceTree struct {
	// Name is its path below the kernel's directory of device trees, for example
	// "rockchip/rk3328-rock64.dtb".
	Name string   `json:"name"`
	From Artefact `json:"from"`
}

// Firmware lists the trees in which the firmware files that modules name are looked up.
type Firmware struct {
	// Trees have files in one of kernel.FirmwarePaths.
	Trees []Artefact `json:"trees"`
	// Exclude are patterns below lib/firmware; Budget is in MiB, 0 is no limit.
	Exclude []string `json:"exclude,omitempty"`
	Budget  int      `json:"budget,omitempty"`
}

// Config lists the configuration files. Pointers may be nil.
type Config struct {
	// Runtime is pantavisor.config; Derived are the keys that follow from the layout.
	Runtime build.Source `json:"runtime"`
	Derived []Setting    `json:"derived,omitempty"`
	// Defaults is the directory with groups.json and policies.
	Defaults build.Source `json:"defaults"`
	// Hub is pantahub.config; Image is image.config, the options of the storage.
	Hub   build.Source  `json:"hub"`
	Image *build.Source `json:"image,omitempty"`
	// Skel goes into the initrd, Stepskel into revision 0: directories of the vendor.
	Skel     *build.Source `json:"skel,omitempty"`
	Stepskel *build.Source `json:"stepskel,omitempty"`
	// Trust are PEM files that signatures are checked against, by their name in
	// /etc/pantavisor/pvs/trust.
	Trust []build.Source `json:"trust,omitempty"`
}

// Pipeline is where the source of a firmware comes from. Members may be empty.
type Pipeline struct {
	Project, Branch, Commit, ID string
}

// Secret is a text that plans, keys and histories of builds have as its SHA-256 only.
type Secret string

// MarshalJSON encodes the SHA-256, or nothing as it is.
func (s Secret) MarshalJSON() ([]byte, error) {
	if s == "" {
		return []byte(`""`), nil
	}
	return fmt.Appendf(nil, `"sha256:%x"`, sha256.Sum256([]byte(s))), nil
}

// Layout is a medium with a partition table.
type Layout struct {
	// File is the name of the output. Default: TARGET-pv-SIZEMiB.img.
	File string `json:"file,omitempty"`
	// Size of the medium in MiB.
	Size int `json:"size"`
	// Block and Page are the sizes in bytes of an erase block and of the smallest write of raw
	// NAND flash.
	Block int64 `json:"block,omitempty"`
	Page  int64 `json:"page,omitempty"`
	// Table is a name in the list of tables in table.go.
	Table string `json:"table"`
	// Compress is a form of compression in which the image is made too, one of media.Forms;
	// empty for none. QCOW2 makes a disk for QEMU too.
	Compress string `json:"compress,omitempty"`
	QCOW2    bool   `json:"qcow2,omitempty"`
	// Partitions in the order of their offsets.
	Partitions []Partition `json:"partitions"`
	// Blobs are written outside of file systems.
	Blobs []Blob `json:"blobs,omitempty"`
}

// Partition is one entry of the partition table.
type Partition struct {
	// Name is the partition's name in the table and the label of its file system.
	Name string `json:"name"`
	// Role is a name in the list of roles in table.go: root for the storage, others for
	// files of the boot loader.
	Role string `json:"role"`
	// Format is a name in the list of formats in disk.go.
	Format string `json:"format"`
	// Type is the type in the table: a GUID, or two hexadecimal digits in an MBR. Default: that
	// of the role.
	Type string `json:"type,omitempty"`
	// Flags are bootable, legacy-boot and mbr. nil: those of the role.
	Flags []string `json:"flags,omitempty"`
	// Start and Size are in bytes. Start 0 is the end of the partition before, Size 0 the
	// remaining space.
	Start int64 `json:"start,omitempty"`
	Size  int64 `json:"size,omitempty"`
}

// Loader is what a boot loader needs on the medium.
type Loader struct {
	// Files are trees for partitions.
	Files []RoleFiles `json:"files,omitempty"`
	// State is a tree that is added to the storage.
	State *Artefact `json:"state,omitempty"`
	// Slot is set when the BSP has a boot partition of the loader in place of kernel and initrd.
	Slot *Slot `json:"slot,omitempty"`
}

// RoleFiles is a tree of files for the partition with a role. Trees of the same role are
// joined; no two may have the same file.
type RoleFiles struct {
	Role string   `json:"role"`
	Tree Artefact `json:"tree"`
}

// Blob is a file that is written to a fixed offset of the medium, where the previous boot
// stage expects it.
type Blob struct {
	// Name is for people: "u-boot-spl".
	Name string   `json:"name"`
	File Artefact `json:"file"`
	// Skip and Length pick a range of the file, in bytes. Length 0: up to its end.
	Skip   int64 `json:"skip,omitempty"`
	Length int64 `json:"length,omitempty"`
	// Swap reverses the bytes of each word of 32 bits.
	Swap bool `json:"swap,omitempty"`
	// Partition is the name of a partition with format raw that the blob is in from its start;
	// Offset then has no meaning.
	Partition string `json:"partition,omitempty"`
	// Offset is where it begins, in bytes from the beginning of the medium.
	Offset int64 `json:"offset,omitempty"`
	// Max is the space reserved for it, in bytes. A larger file is an error.
	Max int64 `json:"max"`
}

// MarshalJSON encodes the step's name and the path in its output; no path means the whole
// output.
func (a Artefact) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Step string `json:"step"`
		Path string `json:"path,omitempty"`
	}{a.Step.Name(), a.File})
}

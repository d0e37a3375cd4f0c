// Package bootloader defines what a boot loader contributes to a disk image: files on
// partitions, blobs at fixed offsets of the medium, and files on the storage. Each loader
// has its own package below this one; package loaders has their table.
//
// All loaders follow one handshake with the runtime. pv_rev is the last good
// revision and pv_try the one to be tested; the runtime writes both to the storage, and
// pv_trial, a number that differs from test to test. pv_trying is the test that was started; the
// loader writes it where it can.
//
//	pv_try | pv_trying | boots  | loader writes | kernel gets
//	empty  | any       | pv_rev | nothing       | pv_rev=REV pv_try=
//	N      | not N@T   | N      | pv_trying=N@T | pv_rev=N   pv_try=N
//	N      | N@T       | pv_rev | nothing       | pv_rev=REV pv_try=N
//
// T is pv_trial. In the second row the runtime sees that it is being tested, in the third that
// the test has failed; it then clears pv_try. Because the mark stays, a test is one boot,
// however often the device is restarted before the runtime gets that far. A runtime that writes
// no pv_trial needs the mark to go away: for it the mark is N, and is removed in the third row.
//
// Package spec (runtime/boot/spec) has the table in a form that runs.
package bootloader

import (
	"slices"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/targets"
)

// Loader is the boot loader of one target. The packages that Requests lists are fetched
// first; the steps are then made from a Kit.
type Loader interface {
	// Requests lists the Debian packages that it needs; nil for none.
	Requests() []debian.Request
	// Files returns the step whose output tree goes onto the partition with the given
	// role, nil when the loader has no files there.
	Files(role string, k Kit) (build.Step, error)
	// Raw returns what is written to the medium outside of partitions.
	Raw(k Kit) ([]Blob, error)
	// State returns the step whose output tree is merged into the storage: the state of
	// the handshake between loader and runtime. nil when there is none.
	State() build.Step
}

// Slotted is a loader that starts the kernel of one of several boot partitions. The BSP then has
// the content of such a partition in place of kernel and initrd.
type Slotted interface {
	Loader
	// Slot returns the role of the partition, the member of bsp/run.json that names its image and
	// the image's name; role is empty when the loader has no such partition.
	Slot() (role, key, file string)
}

// Starter is a loader that can also start a kernel from the boot partition itself, without a
// storage and its handshake: that of an installation medium.
type Starter interface {
	// Start returns the step with the loader's files of that partition, for the kernel and
	// the initrd at paths on it. The kernel gets the arguments of the target's kernel,
	// further ones, and in pv_boot_partuuid the partition.
	Start(kernel, initrd string, arguments []string, k Kit) (build.Step, error)
}

// Kit is what the steps of a loader are made from, besides the target that the loader was
// opened for: that has the layout of the medium.
type Kit struct {
	// Package returns the step whose output has the content of one of the packages that
	// Requests lists, under the paths there. Only what keep names is needed: files, and
	// directories with a '/' at the end.
	Package func(name string, keep ...string) (build.Step, error)
	// Tools are the helper programs.
	Tools *debian.Toolbox
	// Epoch is the time of everything composed.
	Epoch build.Stamp
	// BSP is what the loader starts in revision 0, for loaders that read kernels from
	// their own partition and not from the storage. nil when the BSP is that of a reference
	// device (PVR_USE_SRC_BSP): such a loader then returns fault.Unsupported.
	BSP *BSP
	// Files are those of the target for partitions that firmware reads. A loader does not make
	// a file that is there.
	Files []targets.File
}

// Has reports whether the target itself has a file for the partitions with a role.
func (k Kit) Has(role, path string) bool {
	return slices.ContainsFunc(k.Files, func(f targets.File) bool { return f.PartitionRole() == role && f.To == path })
}

// BSP has the files of a revision that a boot loader reads.
type BSP struct {
	// Kernel is the kernel image.
	Kernel File
	// Initrd are the archives of the initrd, to be loaded one behind the other: the base,
	// then the addons.
	Initrd []File
	// FIT is the file that has kernel, initrd and device trees; nil when there is none.
	FIT *File
	// Tree is the step with the kernel's tree as package kernel describes it; device trees
	// are in its directory dtbs/.
	Tree build.Step
}

// File is a file in the output of a step.
type File struct {
	Step build.Step
	// Path has slashes.
	Path string
}

// Blob is a file that is written to a fixed place of the medium, where the previous boot
// stage expects it.
type Blob struct {
	// Name is for people: "u-boot-spl".
	Name string
	File File
	// Partition is the name of a partition with format raw that it is in from its start. Offset
	// and Max then have no meaning.
	Partition string
	// Offset is where it begins, in bytes from the beginning of the first medium.
	Offset int64
	// Max is the space reserved for it, in bytes. A larger file is an error.
	Max int64
}

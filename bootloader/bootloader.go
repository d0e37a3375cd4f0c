// Package bootloader says what a boot loader is to the composer of a disk: files on
// partitions, blobs at fixed places of the medium, and files on the storage. Each loader
// has a package of its own below this one; package loaders has the table of them.
//
// All loaders follow one handshake with the runtime. pv_rev is the last good
// revision and pv_try the one to be tested; the runtime writes both to the storage.
// pv_trying is the revision whose test boot was started; the loader writes it where
// it can.
//
//	pv_try | pv_trying | boots  | loader writes | kernel gets
//	empty  | any       | pv_rev | nothing       | pv_rev=REV pv_try=
//	N      | not N     | N      | pv_trying=N   | pv_rev=N   pv_try=N
//	N      | N         | pv_rev | pv_trying=    | pv_rev=REV pv_try=N
//
// In the second row the runtime sees that it is being tested, in the third that the
// test has failed; it then clears pv_try.
package bootloader

import (
	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian"
)

// Loader is the boot loader of one target. What it is made of is fetched after
// Requests; the steps are made from a Kit.
type Loader interface {
	// Requests lists what it takes from Debian; nil when it takes nothing.
	Requests() []debian.Request
	// Files returns the step whose output tree goes onto the partition with a role, nil
	// when the loader has nothing there.
	Files(role string, k Kit) (build.Step, error)
	// Raw returns what is written to the medium outside of partitions.
	Raw(k Kit) ([]Blob, error)
	// State returns the step whose output tree goes onto the storage, among its own
	// files: where the loader and the runtime shake hands. nil when there is none.
	State() build.Step
}

// Kit is what the steps of a loader are made from.
type Kit struct {
	// Parts makes the steps that fetch Debian packages.
	Parts *debian.Parts
	// Tools are the helper programs.
	Tools *debian.Toolbox
}

// Blob is a file that is written to a fixed place of the medium, where the code before
// it looks.
type Blob struct {
	// Name is for people: "u-boot-spl".
	Name string
	// Step's output has File, a path with slashes.
	Step build.Step `json:"-"`
	File string
	// Offset is where it begins, in bytes from the beginning of the medium.
	Offset int64
	// Max is the room that it has there, in bytes. A larger file is an error.
	Max int64
}

// Request is the name of a loader's request to Debian.
const Request = "bootloader"

// Package bootloader says what a boot loader is to the composer of a disk: files
// on the boot partition and files on the storage. Each loader has a package of its
// own below this one.
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

import "github.com/pantavisor/pantavisor/build"

// Loader is a boot loader as the disk's composer needs it.
type Loader interface {
	// Boot is the step whose output tree goes onto the partition with the role
	// boot.
	Boot() build.Step
	// Root is the step whose output tree goes onto the partition with the role
	// root, among the storage's own files.
	Root() build.Step
}

// FirstRevision is what a new image boots.
const FirstRevision = "0"

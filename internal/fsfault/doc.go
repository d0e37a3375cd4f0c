// Package fsfault makes file operations fail in tests: each of them in turn, with an error
// of the storage, or all from one on, as after a power cut. The code under test is the
// device's own, without a hook: the operations are caught where they enter the kernel, by
// a filter whose decisions a supervising process makes (seccomp_unotify(2)). So no
// operation is forgotten, not those of the standard library either, and a device pays
// nothing.
//
// A filter cannot be removed from a process: [Isolated] runs the test once more in a
// process of its own, and supervises it.
package fsfault

import "syscall"

// Fault is what happens to the operations that change files below a directory: those that
// create, write, sync, link, name, mark or remove them.
type Fault struct {
	Dir     string        // no operation elsewhere counts
	Reads   bool          // those that open files to read them, and read files and directories, count too
	Nth     int           // the first that fails, counted from 1; 0: none
	Errno   syscall.Errno // with which it fails
	Lasting bool          // all later ones fail too
}

// Result is what happened to the operations.
type Result struct {
	Count  int    // operations that counted
	Failed string // the first that failed, "renameat /storage/x"; empty when none did
}

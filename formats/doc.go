// Package formats contains the on-disk formats that this project writes and reads itself,
// each in a package below it.
//
// A format that holds a tree of files takes it as entries of package tree, which also
// collects directories and makes trees reproducible: squashfs, ext4, ubifs, cpio, fat and
// tarball do. A new format is a new package here: it declares its tree.Limits, so that entries it
// cannot hold are refused by name, takes tree.Entry, has options only for what is
// specific to it, and is tested with the tools of the system. To use it for partitions,
// add it to images/disk.go. A format does not depend on its users.
package formats

// Package formats is the place of the on-disk formats that this project writes and
// reads itself; the code is in the packages below it.
//
// A format that holds a tree of files takes it as entries of package tree, which
// also collects directories and makes trees reproducible: squashfs, cpio, fat32 and
// tarball do. A new disk form becomes a package of its own here: it states its
// tree.Limits, so that what it cannot hold is refused by name, takes tree.Entry, has
// options for what no other format has, and is checked in its tests with the tools
// of the system. Whoever composes images adds it to the formats of partitions in
// images/disk.go. A format knows no user of it.
package formats

// Package cpio writes and reads archives in the "newc" format (magic 070701),
// the one that the Linux kernel unpacks as initramfs.
//
// An archive is sorted by name and its inode numbers are counted from 1. It may be
// written in fragments, so that each can be compressed and cached by itself:
// fragments joined in order, the last with the trailer, are one archive.
//
// Format: Linux, Documentation/driver-api/early-userspace/buffer-format.rst.
package cpio

import (
	"fmt"

	"github.com/pantavisor/pantavisor/formats/tree"
)

const (
	magic   = "070701"
	trailer = "TRAILER!!!"
	header  = len(magic) + 13*8

	// maxName is the longest name that the kernel accepts, in bytes: PATH_MAX without the
	// final NUL.
	maxName = 4095
)

// limits are those of the format: the size field has 32 bits, the device numbers are the
// kernel's, names are those of the file system that it unpacks to (NAME_MAX). The format has hard links, but we do not write them.
var limits = tree.Limits{
	Format: "a newc archive", Name: 255, Path: maxName, Target: maxName, Size: 1<<32 - 1, Major: 0xfff, Minor: 0xfffff,
	Symlinks: true, Devices: true, FIFOs: true, Sockets: true,
}

// Validate checks a whole tree and returns all its mistakes; see [tree.Validate].
func Validate(entries []tree.Entry) error {
	if err := tree.Validate(entries, check); err != nil {
		return fmt.Errorf("checking an archive: %w", err)
	}
	return nil
}

func check(e *tree.Entry) error {
	if err := checkName(e.Name); err != nil {
		return err
	}
	return limits.Check(e)
}

// checkName refuses names with a special meaning.
func checkName(name string) error {
	switch name {
	case trailer:
		return fmt.Errorf("name %q marks the end of an archive", name)
	case ".":
		return fmt.Errorf("name %q: the root has no entry", name)
	}
	return tree.CheckName(name)
}

// Package cpio writes and reads archives in the "newc" format (magic 070701),
// the one that the Linux kernel unpacks as initramfs.
//
// The writer is reproducible by construction: entries are sorted by name, every
// owner is 0:0, all times are the one that the caller gives and inode numbers
// are counted from 1. An archive may be written in fragments, so that each can
// be compressed and cached by itself: fragments joined in order, the last with
// the trailer, are one archive.
//
// Format: Linux, Documentation/driver-api/early-userspace/buffer-format.rst.
package cpio

import (
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// File types as in the upper bits of [Entry.Mode] (stat.st_mode).
const (
	TypeMask    = 0o170000
	TypeRegular = 0o100000
	TypeDir     = 0o040000
	TypeLink    = 0o120000
	TypeChar    = 0o020000
	TypeBlock   = 0o060000
	TypeFIFO    = 0o010000
)

// MaxName is the longest name in bytes that the kernel takes, its PATH_MAX
// without the final NUL.
const MaxName = 4095

// MaxSize is the longest file in bytes: the size field has 32 bits.
const MaxSize = 1<<32 - 1

const (
	magic   = "070701"
	trailer = "TRAILER!!!"
	header  = len(magic) + 13*8
)

// Entry is one name in an archive.
type Entry struct {
	// Name is a relative slash-separated path without "." and ".." elements.
	Name string
	// Mode is a Type constant with the permission bits, as in stat.st_mode.
	Mode uint32
	// Link is what a symbolic link points to; for others it is empty.
	Link string
	// Size is the length in bytes of a regular file.
	Size int64
	// Open gives the content of a regular file; nil means no content.
	Open func() (io.ReadCloser, error)
	// Major and Minor number a device.
	Major, Minor uint32
}

// Dir, Symlink, and Bytes make the customary entries.

// Dir is a folder with the permission bits perm.
func Dir(name string, perm uint32) Entry { return Entry{Name: name, Mode: TypeDir | perm} }

// Symlink is a symbolic link to target.
func Symlink(name, target string) Entry {
	return Entry{Name: name, Mode: TypeLink | 0o777, Link: target}
}

// Bytes is a regular file that holds data.
func Bytes(name string, perm uint32, data []byte) Entry {
	open := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(string(data))), nil }
	return Entry{Name: name, Mode: TypeRegular | perm, Size: int64(len(data)), Open: open}
}

// Sort puts entries in the order of an archive: by bytes of the name, which has
// every folder before what is in it.
func Sort(entries []Entry) {
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
}

// Validate checks a whole tree and returns all that is wrong with it: names that
// are not clean relative paths, names twice, parents that are missing or no
// folders, sizes and links that do not fit the type.
func Validate(entries []Entry) error {
	types := make(map[string]uint32, len(entries))
	var errs []error
	for _, e := range entries {
		if _, twice := types[e.Name]; twice {
			errs = append(errs, fmt.Errorf("checking archive: %q is there twice", e.Name))
		}
		types[e.Name] = e.Mode & TypeMask
		errs = append(errs, e.check())
	}
	for _, e := range entries {
		parent := path.Dir(e.Name)
		if t, ok := types[parent]; parent != "." && (!ok || t != TypeDir) {
			errs = append(errs, fmt.Errorf("checking archive: %q has no folder %q to be in", e.Name, parent))
		}
	}
	return errors.Join(errs...)
}

func (e *Entry) check() error {
	if err := checkName(e.Name); err != nil {
		return err
	}
	return e.checkType()
}

// checkName is the border for names: what passes stays below the root that an
// archive is unpacked to.
func checkName(name string) error {
	switch {
	case name == "" || name == "." || path.Clean(name) != name || path.IsAbs(name):
		return fmt.Errorf("checking archive: name %q is no clean relative path", name)
	case name == ".." || strings.HasPrefix(name, "../"):
		return fmt.Errorf("checking archive: name %q leaves the archive", name)
	case strings.ContainsRune(name, 0) || len(name) > MaxName:
		return fmt.Errorf("checking archive: name %.64q has a NUL or more than %d bytes", name, MaxName)
	case name == trailer:
		return fmt.Errorf("checking archive: name %q marks the end of an archive", name)
	}
	return nil
}

func (e *Entry) checkType() error {
	t := e.Mode & TypeMask
	switch t {
	case TypeRegular, TypeDir, TypeLink, TypeChar, TypeBlock, TypeFIFO:
	default:
		return fmt.Errorf("checking archive: %q has the unknown type %#o", e.Name, t)
	}
	if t == TypeLink && (e.Link == "" || len(e.Link) > MaxName || strings.ContainsRune(e.Link, 0)) {
		return fmt.Errorf("checking archive: link %q points to the unusable %.64q", e.Name, e.Link)
	}
	if e.Size < 0 || e.Size > MaxSize || (e.Size > 0 && (t != TypeRegular || e.Open == nil)) {
		return fmt.Errorf("checking archive: %q cannot have %d bytes of content", e.Name, e.Size)
	}
	return nil
}

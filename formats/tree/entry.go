// Package tree describes a tree of files for the writers of all formats below formats/:
// one [Entry] for a name in it, [Walk] to collect a directory, [Set] to put a tree
// together by hand, and [Normal] to remove what would differ from machine to machine.
// Writers use entries unchanged.
//
// Names, link targets and attributes are bytes; UTF-8 is not required. Nothing is dropped
// silently: a format declares its [Limits], and an entry beyond them is refused by name.
package tree

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"strings"
	"time"
)

// Entry is one name in a tree.
type Entry struct {
	// Name is the path below the root: slash-separated, clean and relative, without
	// NUL; "." is the root itself.
	Name string
	// Mode is the type with the permission bits, setuid, setgid and sticky.
	Mode fs.FileMode
	// UID and GID are the numeric owners.
	UID, GID uint32
	// ModTime is rounded down to the resolution of the format and limited to its range.
	ModTime time.Time
	// Link is the target of a symbolic link.
	Link string
	// HardLink, unless empty, is the Name of an earlier entry for the same file. Type,
	// attributes and content are then those of that entry, whatever the other fields say;
	// Walk fills them in for callers that want a copy.
	HardLink string
	// Major and Minor are the number of a device.
	Major, Minor uint32
	// Xattrs are extended attributes by their full name, for example
	// "security.capability".
	Xattrs map[string][]byte
	// Size is the length of a regular file in bytes.
	Size int64
	// Open returns the content of a regular file from its start; nil is an empty
	// file. A reader that is an *os.File may be asked for its holes (lseek(2),
	// SEEK_DATA); any other reader returns holes as zeros.
	Open func() (io.ReadCloser, error)
}

// Dir returns a directory with the permission bits perm.
func Dir(name string, perm fs.FileMode) Entry {
	return Entry{Name: name, Mode: fs.ModeDir | perm}
}

// Symlink returns a symbolic link to target.
func Symlink(name, target string) Entry {
	return Entry{Name: name, Mode: fs.ModeSymlink | 0o777, Link: target}
}

// Bytes returns a regular file that holds data.
func Bytes(name string, perm fs.FileMode, data []byte) Entry {
	open := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(string(data))), nil }
	return Entry{Name: name, Mode: perm, Size: int64(len(data)), Open: open}
}

// Compare orders entries by the bytes of their names, the root first: every
// directory comes before what is in it.
func Compare(a, b Entry) int { return strings.Compare(sortKey(a.Name), sortKey(b.Name)) }

func sortKey(name string) string {
	if name == "." {
		return ""
	}
	return name
}

// WriteContent writes the content of a regular file. Content that is not Size bytes
// long is an error: the file changed since its entry was made.
func (e *Entry) WriteContent(w io.Writer) error {
	if e.Open == nil {
		return nil
	}
	r, err := e.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	n, err := io.Copy(w, io.LimitReader(r, e.Size+1))
	if err != nil {
		return err
	}
	if n != e.Size {
		return fmt.Errorf("it has %d bytes, not %d: it changed while it was read", n, e.Size)
	}
	return nil
}

// noID is the number that the kernel never gives to a user or group: it means none.
const noID = math.MaxUint32

// Check returns an error for an entry that is invalid in every format.
func (e *Entry) Check() error {
	if err := CheckName(e.Name); err != nil {
		return err
	}
	switch t := e.Mode.Type(); {
	case e.HardLink != "":
		return e.checkHardLink()
	case typeName(t) == "":
		return fmt.Errorf("%.200q has the unknown type %v", e.Name, t)
	case e.Name == "." && t != fs.ModeDir:
		return fmt.Errorf("the root is a %s: want a directory", typeName(t))
	case e.UID == noID || e.GID == noID:
		return fmt.Errorf("%.200q has the owner %d:%d; %d is not a valid ID", e.Name, e.UID, e.GID, uint32(noID))
	case t == fs.ModeSymlink && (e.Link == "" || strings.ContainsRune(e.Link, 0)):
		return fmt.Errorf("%.200q is a symbolic link to the unusable %.64q", e.Name, e.Link)
	case e.Size < 0 || e.Size > 0 && (t != 0 || e.Open == nil):
		return fmt.Errorf("%.200q cannot have %d bytes of content", e.Name, e.Size)
	}
	return nil
}

func (e *Entry) checkHardLink() error {
	if err := CheckName(e.HardLink); err != nil || e.HardLink == "." {
		return errors.Join(fmt.Errorf("%.200q is a hard link to the unusable %.200q", e.Name, e.HardLink), err)
	}
	return nil
}

// CheckName checks a name: a valid one stays below the root that a tree is unpacked to.
func CheckName(name string) error {
	switch {
	case name == ".." || strings.HasPrefix(name, "../"):
		return fmt.Errorf("name %.200q leaves the tree", name)
	case name == "" || path.IsAbs(name) || path.Clean(name) != name:
		return fmt.Errorf("name %.200q is not a clean relative path", name)
	case strings.ContainsRune(name, 0):
		return fmt.Errorf("name %.200q holds a NUL", name)
	}
	return nil
}

// typeName returns the name of the type bits of a mode, empty for unknown ones.
func typeName(t fs.FileMode) string {
	switch t {
	case 0:
		return "regular file"
	case fs.ModeDir:
		return "directory"
	case fs.ModeSymlink:
		return "symbolic link"
	case fs.ModeDevice:
		return "block device"
	case fs.ModeDevice | fs.ModeCharDevice:
		return "character device"
	case fs.ModeNamedPipe:
		return "FIFO"
	case fs.ModeSocket:
		return "socket"
	}
	return ""
}

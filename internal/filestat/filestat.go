// Package filestat returns what a system knows about a file beyond [io/fs.FileInfo]: the
// file's identity, its owner and the time of its last change. Each system has its own form
// of these; this package is the only place that knows them.
package filestat

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// ID identifies a file of this machine, whatever its names.
type ID struct{ Dev, Ino uint64 }

// Stat describes a file.
type Stat struct {
	ID ID
	// Mode is st_mode as Linux has it (inode(7)). Windows has no permissions except that a
	// file can be read-only: there they are 0644 or 0444 for a file, 0755 for a directory and
	// 0777 for a symbolic link.
	Mode  uint32
	Size  int64
	Links uint64
	// UID and GID are 0 on systems without numbers for users.
	UID, GID uint32
	// Major and Minor are the number of a device.
	Major, Minor uint32
	// Modified and Changed are in nanoseconds since 1970. A program cannot set Changed,
	// which changes with the content, the mode and the names. On a file system that does
	// not keep it, Changed is later than any other time.
	Modified, Changed int64
	// Allocated is the number of bytes that the file takes on the disk, 0 if unknown.
	Allocated int64
}

// File types in [Stat.Mode].
const (
	typeMask  = 0o170000
	regular   = 0o100000
	directory = 0o040000
	symlink   = 0o120000
)

// Permissions returns the permission bits with setuid, setgid and sticky.
func (s *Stat) Permissions() uint32 { return s.Mode & 0o7777 }

// IsRegular reports whether it is a regular file.
func (s *Stat) IsRegular() bool { return s.Mode&typeMask == regular }

// IsDir reports whether it is a directory.
func (s *Stat) IsDir() bool { return s.Mode&typeMask == directory }

// IsSymlink reports whether it is a symbolic link.
func (s *Stat) IsSymlink() bool { return s.Mode&typeMask == symlink }

// ModTime returns when the file was written last.
func (s *Stat) ModTime() time.Time { return time.Unix(0, s.Modified) }

// errType is the error of [OpenRegular] for what is not a file.
var errType = errors.New("it is not a regular file any more")

// OpenRegular opens a regular file for reading and describes it. It follows symbolic links,
// and does not wait where a FIFO has the name.
func OpenRegular(path string) (*os.File, Stat, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|noWait, 0)
	if err != nil {
		return nil, Stat{}, err
	}
	st, err := OfFile(f)
	if err == nil && !st.IsRegular() {
		err = failed("open", path, errType)
	}
	if err != nil {
		return nil, Stat{}, errors.Join(err, f.Close())
	}
	return f, st, nil
}

// SameFileSystem reports whether two files are known to be on one file system.
func SameFileSystem(a, b string) bool {
	sa, errA := Of(a)
	sb, errB := Of(b)
	return errA == nil && errB == nil && sa.ID.Dev == sb.ID.Dev
}

// failed is the error of a call for one file.
func failed(op, path string, err error) error { return &fs.PathError{Op: op, Path: path, Err: err} }

// at returns the path of a name in an open directory.
func at(dir *os.File, name string) string { return filepath.Join(dir.Name(), name) }

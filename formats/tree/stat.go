package tree

import (
	"io/fs"
	"math"
	"time"

	"golang.org/x/sys/unix"
)

var statTypes = []struct {
	mode fs.FileMode
	stat uint32
}{
	{0, unix.S_IFREG}, {fs.ModeDir, unix.S_IFDIR}, {fs.ModeSymlink, unix.S_IFLNK}, {fs.ModeDevice, unix.S_IFBLK},
	{fs.ModeDevice | fs.ModeCharDevice, unix.S_IFCHR}, {fs.ModeNamedPipe, unix.S_IFIFO}, {fs.ModeSocket, unix.S_IFSOCK},
}

var statBits = []struct {
	mode fs.FileMode
	stat uint32
}{{fs.ModeSetuid, unix.S_ISUID}, {fs.ModeSetgid, unix.S_ISGID}, {fs.ModeSticky, unix.S_ISVTX}}

// StatMode converts a mode to st_mode (inode(7)), the form in which most formats store
// it. An unknown type becomes 0. The permissions of symbolic links are 0777, as Linux has
// them: programs that compare modes would otherwise see a change.
func StatMode(m fs.FileMode) uint32 {
	if m.Type() == fs.ModeSymlink {
		return unix.S_IFLNK | 0o777
	}
	out := uint32(m.Perm())
	for _, t := range statTypes {
		if t.mode == m.Type() {
			out |= t.stat
		}
	}
	for _, b := range statBits {
		if m&b.mode != 0 {
			out |= b.stat
		}
	}
	return out
}

// FileMode is the reverse of [StatMode]. An unknown type becomes [fs.ModeIrregular].
func FileMode(stat uint32) fs.FileMode {
	out := fs.FileMode(stat & 0o777)
	for _, b := range statBits {
		if stat&b.stat != 0 {
			out |= b.mode
		}
	}
	for _, t := range statTypes {
		if t.stat == stat&unix.S_IFMT {
			return out | t.mode
		}
	}
	return out | fs.ModeIrregular
}

// Seconds returns a time as in most formats, 32 bits of seconds since 1970; times out of
// range become the nearest one.
func Seconds(t time.Time) uint32 { return uint32(min(max(t.Unix(), 0), math.MaxUint32)) }

package tree

import (
	"io/fs"
	"math"
	"time"
)

// File types and bits of st_mode as Linux has them (inode(7)), whatever this machine runs.
const (
	typeMask  = 0o170000
	socket    = 0o140000
	symlink   = 0o120000
	regular   = 0o100000
	block     = 0o060000
	directory = 0o040000
	character = 0o020000
	fifo      = 0o010000
	setuid    = 0o4000
	setgid    = 0o2000
	sticky    = 0o1000
)

var statTypes = []struct {
	mode fs.FileMode
	stat uint32
}{
	{0, regular}, {fs.ModeDir, directory}, {fs.ModeSymlink, symlink}, {fs.ModeDevice, block},
	{fs.ModeDevice | fs.ModeCharDevice, character}, {fs.ModeNamedPipe, fifo}, {fs.ModeSocket, socket},
}

var statBits = []struct {
	mode fs.FileMode
	stat uint32
}{{fs.ModeSetuid, setuid}, {fs.ModeSetgid, setgid}, {fs.ModeSticky, sticky}}

// StatMode converts a mode to st_mode (inode(7)), the form in which most formats store
// it. An unknown type becomes 0. The permissions of symbolic links are 0777, as Linux has
// them: programs that compare modes would otherwise see a change.
func StatMode(m fs.FileMode) uint32 {
	if m.Type() == fs.ModeSymlink {
		return symlink | 0o777
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
		if t.stat == stat&typeMask {
			return out | t.mode
		}
	}
	return out | fs.ModeIrregular
}

// Seconds returns a time as in most formats, 32 bits of seconds since 1970; times out of
// range become the nearest one.
func Seconds(t time.Time) uint32 { return uint32(min(max(t.Unix(), 0), math.MaxUint32)) }

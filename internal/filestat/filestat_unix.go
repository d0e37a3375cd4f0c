//go:build unix

package filestat

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// noWait keeps an open from waiting for the other end of a FIFO.
const noWait = unix.O_NONBLOCK

// Open opens a file for reading; a symbolic link is an error.
func Open(path string) (*os.File, error) { return os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0) }

// Of returns the description of a file; it follows symbolic links.
func Of(path string) (Stat, error) { return of(path, unix.Stat, "stat") }

// OfLink is [Of] that does not follow a symbolic link.
func OfLink(path string) (Stat, error) { return of(path, unix.Lstat, "lstat") }

func of(path string, call func(string, *unix.Stat_t) error, op string) (Stat, error) {
	var st unix.Stat_t
	if err := call(path, &st); err != nil {
		return Stat{}, failed(op, path, err)
	}
	return from(&st), nil
}

// OfFile returns the description of an open file.
func OfFile(f *os.File) (Stat, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return Stat{}, failed("stat", f.Name(), err)
	}
	return from(&st), nil
}

// OfName returns the description of a name in an open directory; it follows symbolic links.
func OfName(dir *os.File, name string) (Stat, error) { return ofName(dir, name, 0) }

// OfLinkName is [OfName] that does not follow a symbolic link.
func OfLinkName(dir *os.File, name string) (Stat, error) {
	return ofName(dir, name, unix.AT_SYMLINK_NOFOLLOW)
}

func ofName(dir *os.File, name string, flags int) (Stat, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), name, &st, flags); err != nil {
		return Stat{}, failed("stat", at(dir, name), err)
	}
	return from(&st), nil
}

// OfInfo returns the description in a result of [os.Stat], [os.Lstat] or [os.File.Stat] of
// the file at path.
func OfInfo(path string, info fs.FileInfo) (Stat, error) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return Stat{}, failed("stat", path, errors.ErrUnsupported)
	}
	modified, changed := times(st)
	return from(&unix.Stat_t{
		Dev: st.Dev, Ino: st.Ino, Mode: st.Mode, Size: st.Size, Nlink: st.Nlink, Uid: st.Uid, Gid: st.Gid, Rdev: st.Rdev,
		Mtim: unix.NsecToTimespec(modified.Nano()), Ctim: unix.NsecToTimespec(changed.Nano()), Blocks: st.Blocks,
	}), nil
}

func from(st *unix.Stat_t) Stat {
	dev, rdev := uint64(st.Dev), uint64(st.Rdev) //nolint:unconvert // 32 bits wide on some systems
	return Stat{
		ID: ID{dev, st.Ino}, Mode: uint32(st.Mode), Size: st.Size, Links: uint64(st.Nlink), //nolint:unconvert // as above
		UID: st.Uid, GID: st.Gid, Major: unix.Major(rdev), Minor: unix.Minor(rdev),
		Modified: st.Mtim.Nano(), Changed: st.Ctim.Nano(), Allocated: st.Blocks * block,
	}
}

// block is the unit of st_blocks (stat(2)).
const block = 512

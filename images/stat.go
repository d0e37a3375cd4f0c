package images

import (
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"
)

// fileID tells files apart, whatever their names.
type fileID struct{ dev, ino uint64 }

// idOf returns a file's identity and whether it has several names.
func idOf(info fs.FileInfo) (fileID, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{}, false
	}
	return fileID{uint64(st.Dev), st.Ino}, st.Nlink > 1 //nolint:unconvert // Dev is 32 bits wide on mips
}

// full tells whether the file system of a folder has less than a MiB left: mke2fs
// calls that a short write.
func full(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && int64(st.Bavail)*int64(st.Bsize) < mib //nolint:unconvert // widths differ
}

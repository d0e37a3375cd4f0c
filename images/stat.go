package images

import "golang.org/x/sys/unix"

// full reports whether the file system of a directory has less than 1 MiB left: mke2fs
// reports only a short write.
func full(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && int64(st.Bavail)*int64(st.Bsize) < mib //nolint:unconvert // widths differ
}

package images

import (
	"io/fs"
	"syscall"
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

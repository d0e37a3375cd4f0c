//go:build unix && !linux

package filelock

import "strconv"

// ofByte returns a file of its own: the locks of bytes that POSIX has belong to a process.
func ofByte(path string, at int64) (string, lockFunc) {
	return path + "-" + strconv.FormatInt(at, 16), lockFile
}

package record

import (
	"strconv"
	"syscall"
)

// ID returns what changes when somebody writes to a file or replaces it: size, times and
// inode.
func ID(path string) (string, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return "", err
	}
	var id []byte
	for _, n := range []int64{st.Size, st.Mtim.Nano(), st.Ctim.Nano(), int64(st.Ino), int64(st.Dev)} {
		id = append(strconv.AppendInt(id, n, 36), ',')
	}
	return string(id), nil
}

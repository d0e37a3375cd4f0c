package filelock

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// holder returns a process that has a lock of the whole file, 0 when that cannot be
// known: the kernel does not list processes of other containers, and not the true
// device of every file system (proc_locks(5)).
func holder(f *os.File) int {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0
	}
	dev := uint64(st.Dev) //nolint:unconvert // 32 bits on some machines
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return 0
	}
	return find(string(locks), fmt.Sprintf("%02x:%02x:%d", unix.Major(dev), unix.Minor(dev), st.Ino))
}

// find returns the process of the first line for a file, such as
// "1: FLOCK  ADVISORY  WRITE 4711 fd:01:131077 0 EOF"; those of waiting processes have
// an arrow in the second column.
func find(locks, file string) int {
	for line := range strings.Lines(locks) {
		col := strings.Fields(line)
		if slices.Contains(col, "->") || len(col) < 6 || col[1] != "FLOCK" || col[5] != file {
			continue
		}
		pid, _ := strconv.Atoi(col[4])
		return max(pid, 0)
	}
	return 0
}

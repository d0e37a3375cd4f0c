// Package filesig tells by the attributes of a file whether its content may have changed
// since it was read.
package filesig

import (
	"io/fs"
	"strconv"
	"syscall"
	"time"
)

// racy is how much older than the moment of reading a file's times must be for what was
// read to be kept. A write within one tick of the file system's clock leaves the times as
// they were; the coarsest clock in use is FAT's with two seconds.
const racy = 2 * time.Second

// Of returns what must stay the same for the content to be the same: size, modification
// time, change time, inode and device.
func Of(info fs.FileInfo) string {
	st := info.Sys().(*syscall.Stat_t)
	b := make([]byte, 0, 80)
	for i, n := range []int64{info.Size(), info.ModTime().UnixNano(), st.Ctim.Nano()} {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, n, 10)
	}
	b = strconv.AppendUint(append(b, ','), st.Ino, 10)
	return string(strconv.AppendUint(append(b, ','), uint64(st.Dev), 10)) //nolint:unconvert // Dev is 32 bits wide on mips
}

// Settled reports whether the file's times are so much older than now that a later write
// must change them.
func Settled(info fs.FileInfo, now time.Time) bool {
	st := info.Sys().(*syscall.Stat_t)
	changed := time.Unix(st.Ctim.Unix())
	return info.ModTime().Before(now.Add(-racy)) && changed.Before(now.Add(-racy))
}

package filestat

import "syscall"

// times returns when a file was written and when it was changed last.
func times(st *syscall.Stat_t) (modified, changed syscall.Timespec) { return st.Mtim, st.Ctim }

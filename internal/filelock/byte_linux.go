package filelock

import "golang.org/x/sys/unix"

func ofByte(path string, at int64) (string, lockFunc) { return path, lockByte(at) }

// lockByte locks for the open file, not for the process as older byte locks do.
func lockByte(at int64) lockFunc {
	return func(fd uintptr, m mode, wait bool) error {
		kind := [...]int16{unlocked: unix.F_UNLCK, shared: unix.F_RDLCK, exclusive: unix.F_WRLCK}[m]
		cmd := unix.F_OFD_SETLK
		if wait {
			cmd = unix.F_OFD_SETLKW
		}
		return again(func() error {
			return unix.FcntlFlock(fd, cmd, &unix.Flock_t{Type: kind, Start: at, Len: 1})
		})
	}
}

package filelock

import (
	"context"

	"golang.org/x/sys/unix"
)

// AcquireByte is [Acquire] for the byte at an offset of a file, which need not be that
// long: one file can hold any number of locks. Locks of bytes and of whole files do not
// exclude each other.
func AcquireByte(ctx context.Context, path string, at int64, opt Options) (*Lock, error) {
	return acquire(ctx, path, opt, lockByte(at))
}

// TryByte is [Try] for the byte at an offset of a file, see [AcquireByte].
func TryByte(path string, at int64, opt Options) (*Lock, error) {
	return try(path, opt, lockByte(at))
}

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

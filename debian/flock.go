package debian

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// lockFile waits for an exclusive lock on a file, which it makes, and returns what
// releases it. The kernel releases it too when the process dies.
func lockFile(file string) (func(), error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "opening a lock file")
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, fault.Wrap(fault.IO, err, "locking %s", file)
	}
	return func() { _ = f.Close() }, nil
}

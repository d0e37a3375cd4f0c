package emulator

import (
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// dirPattern names the temporary folders of machines.
const dirPattern = "pv-run-"

// makeDir makes a temporary folder and holds a lock in it as long as this process
// lives. Folders that nobody holds any more, because their process was killed, are
// removed first: each has a copy of an image.
func makeDir() (dir string, lock *os.File, err error) {
	sweep(os.TempDir())
	if dir, err = os.MkdirTemp("", dirPattern); err != nil {
		return "", nil, fault.Wrap(fault.IO, err, "making a folder for the machine")
	}
	lock, err = os.Create(filepath.Join(dir, "lock"))
	if err == nil {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		_ = os.RemoveAll(dir)
	}
	return dir, lock, fault.Wrap(fault.IO, err, "locking the machine's folder")
}

// fresh is the age below which a folder may be about to be locked.
const fresh = time.Minute

func sweep(tmp string) {
	found, _ := filepath.Glob(filepath.Join(tmp, dirPattern+"*"))
	for _, dir := range found {
		if st, err := os.Stat(dir); err != nil || time.Since(st.ModTime()) < fresh {
			continue
		}
		// Without a lock file it is not ours.
		lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = os.RemoveAll(dir)
		}
		_ = lock.Close()
	}
}

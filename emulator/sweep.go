package emulator

import (
	"os"
	"path/filepath"
	"time"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/filelock"
)

// dirPattern names the temporary directories of machines.
const dirPattern = "pv-run-"

// makeDir makes a temporary directory and holds a lock in it as long as this process
// lives. Directories that nobody holds any more, because their process was killed, are
// removed first: each has a copy of an image.
func makeDir() (dir string, lock *filelock.Lock, err error) {
	sweep(os.TempDir())
	if dir, err = os.MkdirTemp("", dirPattern); err != nil {
		return "", nil, fault.Wrap(fault.IO, err, "making a directory for the machine")
	}
	lock, err = filelock.Try(filepath.Join(dir, "lock"), filelock.Options{Create: 0o644})
	if err != nil {
		_ = os.RemoveAll(dir)
	}
	return dir, lock, fault.Wrap(fault.IO, err, "locking the machine's directory")
}

// fresh is the age below which a directory may be about to be locked.
const fresh = time.Minute

func sweep(tmp string) {
	found, _ := filepath.Glob(filepath.Join(tmp, dirPattern+"*"))
	for _, dir := range found {
		if st, err := os.Stat(dir); err != nil || time.Since(st.ModTime()) < fresh {
			continue
		}
		// Without a lock file it is not ours.
		lock, err := filelock.Try(filepath.Join(dir, "lock"), filelock.Options{})
		if err != nil {
			continue
		}
		_ = os.RemoveAll(dir)
		lock.Unlock()
	}
}

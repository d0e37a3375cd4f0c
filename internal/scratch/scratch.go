// Package scratch makes temporary directories. A process that is killed cannot remove its
// directory; the next process that makes one with the same prefix does.
package scratch

import (
	"os"
	"path/filepath"
	"time"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/filelock"
)

// lockName is a file in each directory that its process holds locked.
const lockName = "lock"

// Dir is a temporary directory of this process.
type Dir struct {
	// Path is the directory.
	Path string

	lock *filelock.Lock
}

// New makes a temporary directory whose name begins with prefix, and removes those of
// processes that no longer run. Prefixes of different purposes must differ, and the file
// "lock" in the directory is taken. Errors are of kind fault.IO.
func New(prefix string) (*Dir, error) {
	sweep(os.TempDir(), prefix)
	dir, err := os.MkdirTemp("", prefix)
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "making a temporary directory")
	}
	lock, err := filelock.Try(filepath.Join(dir, lockName), filelock.Options{Create: 0o644})
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, fault.Wrap(fault.IO, err, "locking a temporary directory")
	}
	return &Dir{dir, lock}, nil
}

// Remove removes the directory. It may be called more than once, and on nil.
func (d *Dir) Remove() {
	if d == nil || d.lock == nil {
		return
	}
	_ = os.RemoveAll(d.Path)
	d.lock.Unlock()
	_ = os.RemoveAll(d.Path) // on Windows an open file may keep its directory
	d.lock = nil
}

// fresh is the age below which a directory may be about to be locked.
const fresh = time.Minute

func sweep(tmp, prefix string) {
	found, _ := filepath.Glob(filepath.Join(tmp, prefix+"*"))
	for _, dir := range found {
		if st, err := os.Stat(dir); err != nil || time.Since(st.ModTime()) < fresh {
			continue
		}
		// Others can make such directories too: opening must not wait for the end of a FIFO.
		if st, err := os.Lstat(filepath.Join(dir, lockName)); err != nil || !st.Mode().IsRegular() {
			continue
		}
		// Without a lock file it is not ours.
		lock, err := filelock.Try(filepath.Join(dir, lockName), filelock.Options{})
		if err != nil {
			continue
		}
		_ = os.RemoveAll(dir)
		lock.Unlock()
	}
}

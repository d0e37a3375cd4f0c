//go:build unix

package atomicfile

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Rename gives a file or directory another name in the same file system. A file of that
// name is replaced.
func Rename(from, to string) error { return os.Rename(from, to) }

// openForSync opens a file whose content is to be made durable.
func openForSync(path string) (*os.File, error) { return os.Open(path) }

// flush writes the content of a file to its disk, where macOS leaves it in the disk's cache.
func flush(f *os.File) error {
	for {
		if err := unix.Fsync(int(f.Fd())); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("opening directory %s: %w", dir, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("syncing directory %s: %w", dir, err)
	}
	return nil
}

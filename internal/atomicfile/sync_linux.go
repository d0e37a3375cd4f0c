package atomicfile

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// syncAll is the number of files from which a batch syncs the whole file system
// once in place of each file.
const syncAll = 16

// SyncTree makes everything written below a directory durable, at the cost of everything
// else in its file system.
func SyncTree(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("opening directory %s: %w", dir, err)
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("syncing the file system of %s: %w", dir, err)
	}
	return nil
}

// syncFiles makes files below a directory durable.
func syncFiles(dir string, files []string) error {
	if len(files) >= syncAll {
		return SyncTree(dir)
	}
	for _, path := range files {
		if err := syncFile(path, true); err != nil {
			return err
		}
	}
	return nil
}

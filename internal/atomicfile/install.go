package atomicfile

import (
	"fmt"
	"os"
	"path/filepath"
)

// Install makes an open file durable and gives it the name path in the same file
// system. It is for files that were kept while they grew, such as downloads; the
// file stays open, so that a lock on it holds over the rename.
func Install(f *os.File, path string) error {
	if err := f.Sync(); err != nil {
		return fmt.Errorf("syncing %s: %w", f.Name(), err)
	}
	if err := Rename(f.Name(), path); err != nil {
		return fmt.Errorf("renaming to %s: %w", path, err)
	}
	return SyncDir(filepath.Dir(path))
}

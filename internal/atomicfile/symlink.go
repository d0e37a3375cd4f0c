package atomicfile

import (
	"fmt"
	"os"
	"path/filepath"
)

// Symlink makes the symbolic link at path point to target, in one durable step when
// there is a link already. One that points there is left alone.
func Symlink(target, path string) error {
	if old, err := os.Readlink(path); err == nil && old == target {
		return nil
	}
	tmp := path + ".tmp"
	_ = os.Remove(tmp) // of a run that was killed
	if err := os.Symlink(target, tmp); err != nil {
		return fmt.Errorf("pointing %s to %s: %w", path, target, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		_ = os.Remove(tmp)
		return fmt.Errorf("pointing %s to %s: %w", path, target, err)
	}
	return SyncDir(filepath.Dir(path))
}

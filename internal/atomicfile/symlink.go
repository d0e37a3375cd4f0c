package atomicfile

import (
	"fmt"
	"os"
	"path/filepath"
)

// Symlink makes the symbolic link at path point to target, atomically and durably if
// there is a link already. A link that already points there is left alone.
func Symlink(target, path string) error {
	if old, err := os.Readlink(path); err == nil && old == target {
		return nil
	}
	tmp := path + ".tmp"
	_ = os.Remove(tmp) // left by a killed run
	if err := os.Symlink(target, tmp); err != nil {
		return fmt.Errorf("pointing %s to %s: %w", path, target, err)
	}
	if err := Rename(tmp, path); err != nil {
		_ = os.Remove(tmp)
		return fmt.Errorf("pointing %s to %s: %w", path, target, err)
	}
	return SyncDir(filepath.Dir(path))
}

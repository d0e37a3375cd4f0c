// Package cachedir locates the cache directory. It is a separate package because
// cmd/mage, which starts with every command, must import little.
package cachedir

import (
	"os"
	"path/filepath"
)

// Variable is the environment variable that overrides the directory.
const Variable = "PV_CACHE_DIR"

// Find returns PV_CACHE_DIR as an absolute path, else $XDG_CACHE_HOME/pantavisor, else
// ~/.cache/pantavisor. The directory need not exist.
func Find() (string, error) {
	if dir := os.Getenv(Variable); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "pantavisor"), nil
}

//go:build !linux

package atomicfile

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

func inOrder(*os.File) bool { return false }

func writeOut(f *os.File) error { return f.Sync() }

// SyncTree makes everything written below a directory durable. Read-only files are left
// out: they are links to what is durable, and Windows cannot sync them.
func SyncTree(dir string) error {
	var files []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Mode()&0o200 != 0 {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("syncing %s: %w", dir, err)
	}
	if err := syncFiles(dir, files); err != nil {
		return err
	}
	return SyncDir(dir)
}

// syncFiles makes files below a directory durable. All of them go to the disk before the
// last makes the disk write its cache, which takes macOS some milliseconds.
func syncFiles(_ string, files []string) error {
	for i, path := range files {
		if err := syncFile(path, i == len(files)-1); err != nil {
			return err
		}
	}
	return nil
}

package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/ext4fs"
)

// syncAll is the number of files from which a batch syncs the whole file system
// once in place of each file.
const syncAll = 16

// inOrder reports whether a file's name cannot be on the medium without the content that was
// written out before it was named. ext4 with a journal is so: it allocates the blocks of
// the content and changes their inode in the transaction of the name or in one before it.
func inOrder(f *os.File) bool { return ext4fs.Journaled(f) }

// writeOut passes the content of a file to its disk and waits; the disk may have it in its cache.
func writeOut(f *os.File) error {
	const all = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	for {
		if err := unix.SyncFileRange(int(f.Fd()), 0, 0, all); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// NameTree makes everything written below a directory durable, and then the name that name gives it
// in the directory parent. A power cut never leaves the name without the content.
func NameTree(dir, parent string, name func() error) error {
	if err := settleTree(dir); err != nil {
		return err
	}
	if err := name(); err != nil {
		return err
	}
	return SyncDir(parent)
}

// settleTree makes a tree ready to be named: durable, or as far on its way that it becomes so with
// the name.
func settleTree(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("opening directory %s: %w", dir, err)
	}
	defer d.Close()
	if inOrder(d) {
		return writeOutTree(dir)
	}
	return SyncTree(dir)
}

// writeOutTree passes the content of the files of a tree to their disk. Those that have it already
// cost nothing.
func writeOutTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		if err := errors.Join(writeOut(f), f.Close()); err != nil {
			return fmt.Errorf("writing %s out: %w", path, err)
		}
		return nil
	})
}

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

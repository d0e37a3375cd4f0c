package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/filecopy"
	"github.com/pantavisor/pantavisor/internal/octal"
)

// copyTree copies files and directories. It replaces symbolic links by their targets,
// which must be within the tree.
func copyTree(from, to string) error {
	root, err := os.OpenRoot(from)
	if err != nil {
		return err
	}
	defer root.Close()
	return copyDir(root, ".", to, 0)
}

// maxDepth bounds nested directories: a link may lead to a directory above it.
const maxDepth = 64

func copyDir(root *os.Root, dir, to string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%s: more than %d nested directories", dir, maxDepth)
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	f, err := root.Open(dir)
	if err != nil {
		return err
	}
	entries, err := f.ReadDir(-1)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	for _, e := range entries {
		name, dst := filepath.Join(dir, e.Name()), filepath.Join(to, e.Name())
		info, err := root.Stat(name)
		switch {
		case err != nil:
		case info.IsDir():
			err = copyDir(root, name, dst, depth+1)
		case info.Mode().IsRegular():
			err = copyFile(root, name, dst, info.Mode().Perm())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func copyFile(root *os.Root, name, dst string, perm fs.FileMode) error {
	in, err := root.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	return filecopy.To(context.Background(), dst, in, perm|0o444)
}

// removeEmpty removes the mount points below dir and dir itself. It never removes
// content: mount points that are not empty stay.
func removeEmpty(dir string) error {
	var paths []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if info, e := d.Info(); e == nil && (d.IsDir() || info.Size() == 0) {
			paths = append(paths, p)
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, p := range slices.Backward(paths) {
		_ = os.Remove(p)
	}
	return err
}

// Sweep unmounts what a killed run has left mounted below a directory, the latest mount
// first; it returns the number of these mounts.
func Sweep(dir string) (n int, err error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return 0, fmt.Errorf("listing mounts of an earlier run: %w", err)
	}
	var errs []error
	for _, line := range slices.Backward(strings.Split(string(text), "\n")) {
		f := strings.Fields(line)
		if len(f) < 5 {
			continue
		}
		target := octal.Unescape(f[4])
		if !strings.HasPrefix(target, dir+"/") {
			continue
		}
		n++
		if err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH); err != nil && err != unix.EINVAL {
			errs = append(errs, fmt.Errorf("unmounting %s: %w", target, err))
		}
	}
	return n, errors.Join(errs...)
}

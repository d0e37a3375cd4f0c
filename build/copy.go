package build

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/fault"
)

// CopyFile puts a copy of the regular file src at dst, under a temporary name in
// dst's folder first. Where the file system can, the copy shares its blocks with
// src until one of them is written (FICLONE, ioctl_ficlone(2)); else the data is
// copied and holes stay holes. The copy is a file of its own: who writes to it
// does not reach src.
func CopyFile(dst, src string) error {
	in, err := os.Open(src)
	if err != nil {
		return fault.Wrap(fault.IO, err, "copying")
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return fault.Wrap(fault.IO, err, "copying")
	}
	out, err := os.CreateTemp(filepath.Dir(dst), tmpPattern(dst))
	if err != nil {
		return fault.Wrap(fault.IO, err, "copying to %s", dst)
	}
	defer os.Remove(out.Name()) // gone after the rename
	defer out.Close()           // closed below when it matters
	if err := fill(out, in, info); err != nil {
		return fault.Wrap(fault.IO, err, "copying to %s", dst)
	}
	return fault.Wrap(fault.IO, os.Rename(out.Name(), dst), "copying to %s", dst)
}

// tmpPattern is the form of temporary names beside a published file.
func tmpPattern(dst string) string { return "." + filepath.Base(dst) + ".tmp-" }

func fill(out, in *os.File, info fs.FileInfo) error {
	if err := out.Chmod(info.Mode().Perm()); err != nil {
		return err
	}
	if err := unix.IoctlFileClone(int(out.Fd()), int(in.Fd())); err != nil {
		if err := copySparse(out, in, info.Size()); err != nil {
			return err
		}
	}
	return out.Close()
}

func copySparse(out, in *os.File, size int64) error {
	if err := out.Truncate(size); err != nil {
		return err
	}
	return eachExtent(in, size, func(from, to int64) error {
		if _, err := out.Seek(from, io.SeekStart); err != nil {
			return err
		}
		if _, err := in.Seek(from, io.SeekStart); err != nil {
			return err
		}
		_, err := io.CopyN(out, in, to-from) // copy_file_range(2) underneath
		return err
	})
}

// copyTree copies a folder to the new folder dst.
func copyTree(dst, src string) error {
	return filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		to := filepath.Join(dst, rel)
		switch {
		case d.IsDir():
			return os.MkdirAll(to, 0o755)
		case d.Type()&fs.ModeSymlink != 0:
			return copyLink(to, path)
		case d.Type().IsRegular():
			return CopyFile(to, path)
		}
		return fmt.Errorf("copying %s: neither file, folder nor link", path)
	})
}

func copyLink(to, path string) error {
	target, err := os.Readlink(path)
	if err != nil {
		return err
	}
	return os.Symlink(target, to)
}

// replaceTree puts a copy of the folder src at dst. What is there is exchanged with
// it in one step (renameat2(2)). File systems that cannot do that have the old one
// moved aside first, so that for an instant there is none, but never a part.
func replaceTree(dst, src string) error {
	tmp, err := os.MkdirTemp(filepath.Dir(dst), tmpPattern(dst))
	if err != nil {
		return err
	}
	defer removeAll(tmp) //nolint:errcheck // swept by the next build
	fresh, old := filepath.Join(tmp, "new"), filepath.Join(tmp, "old")
	if err := copyTree(fresh, src); err != nil {
		return err
	}
	err = unix.Renameat2(unix.AT_FDCWD, fresh, unix.AT_FDCWD, dst, unix.RENAME_EXCHANGE)
	if err == nil {
		return nil
	}
	err = os.Rename(dst, old)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(fresh, dst)
}

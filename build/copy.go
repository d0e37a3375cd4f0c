package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/filecopy"
)

// CopyFile puts a copy of the regular file src at dst, see package filecopy, under a
// temporary name in dst's directory first. The copy shares no data with src: a later
// write to it does not change src.
func CopyFile(ctx context.Context, dst, src string) error {
	in, err := os.Open(src)
	if err != nil {
		return fault.Wrap(fault.IO, err, "copying")
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return fault.Wrap(fault.IO, err, "copying")
	}
	out, named, err := createBeside(dst)
	if err != nil {
		return fault.Wrap(fault.IO, err, "copying to %s", dst)
	}
	defer os.Remove(named) // fails harmlessly after the rename
	defer out.Close()      // settleFile closes it and checks the error
	if err := errors.Join(out.Chmod(info.Mode().Perm()), filecopy.Content(ctx, out, in)); err != nil {
		return fault.Wrap(fault.IO, err, "copying to %s", dst)
	}
	return fault.Wrap(fault.IO, settleFile(out, named, dst), "copying to %s", dst)
}

// createBeside creates an empty file in dst's directory and returns it with its temporary
// name. Where the file system supports it, the file has no name until its content is
// complete (O_TMPFILE, open(2)): a process killed in between leaves nothing.
func createBeside(dst string) (*os.File, string, error) {
	dir := filepath.Dir(dst)
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		named := filepath.Join(dir, fmt.Sprintf("%s%d-%d", tmpPattern(dst), os.Getpid(), fd))
		return os.NewFile(uintptr(fd), named), named, nil
	}
	out, err := os.CreateTemp(dir, tmpPattern(dst))
	if err != nil {
		return nil, "", err
	}
	return out, out.Name(), nil
}

// settleFile gives the file the name dst, whether it had a temporary name or none.
func settleFile(out *os.File, named, dst string) error {
	if _, err := os.Lstat(named); errors.Is(err, fs.ErrNotExist) {
		self := fmt.Sprintf("/proc/self/fd/%d", out.Fd())
		if err := unix.Linkat(unix.AT_FDCWD, self, unix.AT_FDCWD, named, unix.AT_SYMLINK_FOLLOW); err != nil {
			return &os.LinkError{Op: "linkat", Old: self, New: named, Err: err}
		}
	}
	return errors.Join(out.Close(), os.Rename(named, dst))
}

// tmpPattern returns the prefix of temporary names beside a published file.
func tmpPattern(dst string) string { return "." + filepath.Base(dst) + ".tmp-" }

// CopyTree copies the files, directories and symbolic links below the directory src
// to the directory dst, which may exist; hard links become separate files.
func CopyTree(ctx context.Context, dst, src string) error {
	return tree.Walk(ctx, src, tree.Options{}, func(e tree.Entry) error {
		to := filepath.Join(dst, e.Name)
		switch {
		case e.Mode.IsDir():
			return os.MkdirAll(to, 0o755)
		case e.Mode.Type() == fs.ModeSymlink:
			return os.Symlink(e.Link, to)
		case e.Mode.IsRegular():
			return CopyFile(ctx, to, filepath.Join(src, e.Name))
		}
		return fmt.Errorf("copying %s: neither a file, a directory nor a symbolic link", e.Name)
	})
}

// settleTree gives a copy of a directory the permissions and times of the original, which follow from
// neither the umask nor the clock.
func settleTree(ctx context.Context, dst, src string) error {
	var all []tree.Entry
	err := tree.Walk(ctx, src, tree.Options{}, func(e tree.Entry) error {
		all = append(all, e)
		return nil
	})
	if err != nil {
		return err
	}
	for _, e := range slices.Backward(all) { // a directory after what is in it
		to := filepath.Join(dst, e.Name)
		if e.Mode.Type() == fs.ModeSymlink {
			continue
		}
		if err := errors.Join(os.Chmod(to, e.Mode.Perm()), os.Chtimes(to, e.ModTime, e.ModTime)); err != nil {
			return err
		}
	}
	return nil
}

// replaceTree puts a copy of the directory src at dst. An existing dst is exchanged with
// it atomically (renameat2(2)). On a file system without exchange the old directory is
// moved aside first: for an instant dst does not exist, but it is never incomplete.
func replaceTree(ctx context.Context, dst, src string) error {
	tmp, err := os.MkdirTemp(filepath.Dir(dst), tmpPattern(dst))
	if err != nil {
		return err
	}
	defer removeAll(tmp) //nolint:errcheck // swept by the next build
	fresh, old := filepath.Join(tmp, "new"), filepath.Join(tmp, "old")
	if err := CopyTree(ctx, fresh, src); err != nil {
		return err
	}
	if err := settleTree(ctx, fresh, src); err != nil {
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

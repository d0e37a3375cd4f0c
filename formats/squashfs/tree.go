package squashfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// inodeKey tells hard links from copies.
type inodeKey struct{ dev, ino uint64 }

// AddTree adds a folder of this machine with all that is in it, in sorted order:
// owners, modes, times, hard links, devices and, where readable, extended
// attributes. The folder itself becomes the image's root.
func (w *Writer) AddTree(ctx context.Context, dir string) error {
	seen := map[inodeKey]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		e, err := treeEntry(p, filepath.ToSlash(rel), d, seen)
		if err != nil {
			return err
		}
		return w.Add(ctx, e)
	})
	if err != nil {
		return fmt.Errorf("adding the tree %s: %w", dir, err)
	}
	return nil
}

func treeEntry(p, rel string, d fs.DirEntry, seen map[inodeKey]string) (Entry, error) {
	info, err := d.Info()
	if err != nil {
		return Entry{}, err
	}
	st := info.Sys().(*syscall.Stat_t)
	e := Entry{Path: rel, Mode: info.Mode(), UID: st.Uid, GID: st.Gid, ModTime: info.ModTime()}
	if st.Nlink > 1 && !d.IsDir() {
		key := inodeKey{uint64(st.Dev), st.Ino} //nolint:unconvert // 32 bits wide on some architectures
		if first, ok := seen[key]; ok {
			e.Mode, e.Link = 0, first // the link shares the first name's inode
			return e, nil
		}
		seen[key] = rel
	}
	switch {
	case e.Mode.IsRegular():
		e.Open = func() (io.ReadCloser, error) { return os.Open(p) }
	case e.Mode&fs.ModeSymlink != 0:
		if e.Link, err = os.Readlink(p); err != nil {
			return e, err
		}
	case e.Mode&fs.ModeDevice != 0:
		rdev := uint64(st.Rdev) //nolint:unconvert // 32 bits wide on some architectures
		e.Major, e.Minor = unix.Major(rdev), unix.Minor(rdev)
	}
	e.Xattrs, err = ReadXattrs(p)
	return e, err
}

// ReadXattrs returns the attributes of a path that squashfs can hold; others, such as the
// kernel's own system.*, are what the new file system makes itself.
func ReadXattrs(p string) (map[string][]byte, error) {
	names := make([]byte, 64<<10)
	n, err := unix.Llistxattr(p, names)
	if errors.Is(err, unix.ENOTSUP) || n == 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing extended attributes of %s: %w", p, err)
	}
	set := map[string][]byte{}
	for _, name := range strings.Split(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		if strings.HasPrefix(name, "system.") {
			continue
		}
		value := make([]byte, maxXattrValue)
		size, err := unix.Lgetxattr(p, name, value)
		if err != nil {
			return nil, fmt.Errorf("reading extended attribute %s of %s: %w", name, p, err)
		}
		set[name] = value[:size:size]
	}
	return set, nil
}

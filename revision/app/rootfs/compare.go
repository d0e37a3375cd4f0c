package rootfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/formats/squashfs"
)

func sameAttributes(a, b *inode) bool {
	return a.mode == b.mode && a.uid == b.uid && a.gid == b.gid && a.link == b.link &&
		a.major == b.major && a.minor == b.minor && maps.EqualFunc(a.xattrs, b.xattrs, bytes.Equal)
}

// same compares two inodes that are not both folders, contents last.
func (t *Tree) same(base *Tree, n, old *inode) (bool, error) {
	if !sameAttributes(n, old) || n.size != old.size {
		return false, nil
	}
	if !n.mode.IsRegular() {
		return true, nil
	}
	a, err := t.open(n)
	if err != nil {
		return false, err
	}
	defer a.Close()
	b, err := base.open(old)
	if err != nil {
		return false, err
	}
	defer b.Close()
	return sameContent(a, b)
}

func sameContent(a, b io.Reader) (bool, error) {
	bufA, bufB := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, errA := io.ReadFull(a, bufA)
		m, errB := io.ReadFull(b, bufB)
		if !bytes.Equal(bufA[:n], bufB[:m]) {
			return false, nil
		}
		if ended(errA) && ended(errB) {
			return true, nil
		}
		if errA != nil || errB != nil {
			return false, errors.Join(errA, errB)
		}
	}
}

func ended(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// AddFolder adds what is in a folder of this machine with its owners, modes and
// extended attributes.
// Contents are read when the tree is written.
func (t *Tree) AddFolder(ctx context.Context, dir string) error {
	links := map[[2]uint64]*inode{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		n, err := fromDisk(p, d, links)
		if err != nil {
			return err
		}
		folder, base, err := clean(filepath.ToSlash(rel))
		if err != nil {
			return err
		}
		return t.put(folder, base, n)
	})
	if err != nil {
		return fmt.Errorf("adding the folder %s: %w", dir, err)
	}
	return nil
}

func fromDisk(p string, d fs.DirEntry, links map[[2]uint64]*inode) (*inode, error) {
	info, err := d.Info()
	if err != nil {
		return nil, err
	}
	st := info.Sys().(*syscall.Stat_t)
	key := [2]uint64{uint64(st.Dev), st.Ino} //nolint:unconvert // 32 bits wide on some architectures
	if n := links[key]; n != nil && !d.IsDir() {
		return n, nil
	}
	n := &inode{mode: info.Mode(), uid: st.Uid, gid: st.Gid, time: info.ModTime()}
	if n.xattrs, err = squashfs.ReadXattrs(p); err != nil {
		return nil, err
	}
	links[key] = n
	switch {
	case d.IsDir():
		n.children = map[string]*inode{}
	case n.mode.IsRegular():
		n.size = info.Size()
		n.opened = func() (io.ReadCloser, error) { return os.Open(p) }
	case n.mode&fs.ModeSymlink != 0:
		n.link, err = os.Readlink(p)
	case n.mode&fs.ModeDevice != 0:
		rdev := uint64(st.Rdev) //nolint:unconvert // 32 bits wide on some architectures
		n.major, n.minor = unix.Major(rdev), unix.Minor(rdev)
	}
	return n, err
}

package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// bootDir is the directory below VolDir with the tmpfs of each boot volume. A volume is a
// bind mount of its tmpfs, so that the content survives the container.
const bootDir = ".boot"

// bootStorage holds the boot volumes of all containers. Its zero value is ready; its
// methods may be called at the same time.
type bootStorage struct {
	mu   sync.Mutex
	dirs map[[2]string]string // by container and volume
}

// open returns the directory of a boot volume, which is made when it is asked for first.
func (b *bootStorage) open(volDir, container, name string) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := [2]string{container, name}
	if dir, ok := b.dirs[key]; ok {
		return dir, nil
	}
	parent := filepath.Join(volDir, bootDir)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(parent, "")
	if err != nil {
		return "", err
	}
	if err := unix.Mount("none", dir, "tmpfs", unix.MS_NODEV, "mode=755"); err != nil {
		return "", errors.Join(&os.PathError{Op: "mount", Path: dir, Err: err}, os.Remove(dir))
	}
	if b.dirs == nil {
		b.dirs = map[[2]string]string{}
	}
	b.dirs[key] = dir
	return dir, nil
}

// Close drops the boot volumes and their content. Nothing may be mounted any more.
func (m *Mounter) Close() error {
	err := m.boot().drop(func(string) bool { return true })
	_ = os.Remove(filepath.Join(m.VolDir, bootDir)) // it stays while another Mounter uses it
	return err
}

// Drop drops the boot volumes of containers that have ended, so that those of their names
// in the next revision begin with empty ones, as after a boot.
func (m *Mounter) Drop(containers []string) error {
	return m.boot().drop(func(name string) bool { return slices.Contains(containers, name) })
}

// drop drops the volumes of the containers that which accepts.
func (b *bootStorage) drop(which func(container string) bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var errs []error
	for key, dir := range b.dirs {
		if !which(key[0]) {
			continue
		}
		err := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
		if err == nil {
			err = os.Remove(dir)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("dropping the boot volume %s of %s: %w", key[1], key[0], err))
		}
		delete(b.dirs, key)
	}
	return errors.Join(errs...)
}

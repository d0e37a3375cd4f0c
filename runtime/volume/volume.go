// Package volume mounts a container's volumes: the images of its part, its storage, and
// the copy of its configuration overlay.
//
// A volume is at <voldir>/<container>/<name>, the path that container configurations
// use (manual: Containers, storage):
//
//	image in the part        loop mount, read-only; the type is the suffix of its name
//	FILE.bind                bind mount of the file in the trail, writable
//	DIRECTORY.data           bind mount of the directory in the trail
//	permanent storage        <storage>/disks/perm/<container>/<name>
//	revision storage         <storage>/disks/rev/<revision>/<container>/<name>
//	boot storage             a tmpfs, empty at the first mount after a boot
//
// Boot storage lives until [Mounter.Close], however often the container is started again,
// or until [Mounter.Drop].
//
// The configuration overlay _config/<container> is copied to <confdir>/<container>.
package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/runtime/storage"
)

// Mounter mounts the volumes of one revision's containers.
type Mounter struct {
	Trail   string // checked-out revision, <storage>/trails/<rev>
	Disks   string // <storage>/disks
	Rev     string
	VolDir  string // PV_DISK_VOLDIR
	ConfDir string // PV_SYSTEM_CONFDIR
	// LoopBase is PV_LOOP_INDEX_BASE: the lowest loop device to use, below 1 any.
	LoopBase int
	// Handlers enables verity handlers (PV_SECUREBOOT_HANDLERS).
	Handlers bool
	// Disk finds a disk of device.json by its name; nil when it has none. A volume
	// without a disk is on the storage itself.
	Disk func(name string) (*manifest.Disk, bool)
	// First is the Mounter of the first revision since the boot, whose boot storage all
	// later ones share; nil in that one itself.
	First *Mounter

	own bootStorage
}

// boot returns the boot storage of this and all earlier revisions.
func (m *Mounter) boot() *bootStorage {
	if m.First != nil {
		return &m.First.own
	}
	return &m.own
}

// Set is the set of mounts of one container.
type Set struct {
	// Config is the directory with the copy of the configuration overlay, "" without.
	Config  string
	dir     string   // <voldir>/<container>
	targets []string // in the order of mounting
}

// Mount mounts all volumes of a container. On an error nothing stays mounted.
func (m *Mounter) Mount(c *manifest.Container) (*Set, error) {
	s := &Set{dir: filepath.Join(m.VolDir, c.Name)}
	if err := m.mountAll(s, c); err != nil {
		return nil, errors.Join(err, s.Unmount())
	}
	return s, nil
}

func (m *Mounter) mountAll(s *Set, c *manifest.Container) error {
	for _, a := range slices.Concat([]manifest.Artifact{c.Root}, c.Volumes) {
		if a.File == "" {
			continue
		}
		if err := m.artifact(s, c.Name, a); err != nil {
			return fmt.Errorf("mounting volume %s: %w", a, err)
		}
	}
	for _, v := range c.Storage {
		if err := m.storage(s, c.Name, v); err != nil {
			return fmt.Errorf("mounting storage %s: %w", v.Name, err)
		}
	}
	if err := m.overlay(s, c.Name); err != nil {
		return fmt.Errorf("copying _config/%s: %w", c.Name, err)
	}
	return nil
}

// target makes the mount point of a volume.
func (s *Set) target(name string, file bool) (string, error) {
	if !fs.ValidPath(name) || name == "." {
		return "", fmt.Errorf("%q is not a valid volume name", name)
	}
	target := filepath.Join(s.dir, name)
	if !file {
		return target, os.MkdirAll(target, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return "", err
	}
	f, err := os.OpenFile(target, os.O_CREATE|os.O_RDONLY, 0o644)
	if err != nil {
		return "", err
	}
	return target, f.Close()
}

// mount makes a mount and records it for Unmount.
func (s *Set) mount(source, target, fstype string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, fstype, flags, data); err != nil {
		return &os.PathError{Op: "mount", Path: source, Err: err}
	}
	s.targets = append(s.targets, target)
	return nil
}

// artifact mounts a file or directory of the container's part.
func (m *Mounter) artifact(s *Set, name string, a manifest.Artifact) error {
	if a.Handler != "" && m.Handlers {
		return fmt.Errorf("the handler %s is not available; PV_SECUREBOOT_HANDLERS=0 mounts without it", a.Handler)
	}
	source := filepath.Join(m.Trail, name, a.File)
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	target, err := s.target(a.File, !info.IsDir() && strings.HasSuffix(a.File, ".bind"))
	if err != nil {
		return err
	}
	switch filepath.Ext(a.File) {
	case ".bind":
		return s.mount(source, target, "", unix.MS_BIND, "")
	case ".data":
		return s.mount(source, target, "", unix.MS_BIND|unix.MS_REC, "")
	}
	return m.image(s, source, target)
}

// loopTries returns mount options for an image of a type, to be tried in order. The
// journal of an image must not be replayed: the image is an object, whose name is its
// digest.
func loopTries(fstype string) []string {
	if fstype == "ext4" || fstype == "ext3" {
		return []string{"noload"}
	}
	return []string{""}
}

func (m *Mounter) image(s *Set, source, target string) error {
	fstype := strings.TrimPrefix(filepath.Ext(source), ".")
	if fstype == "" {
		return errors.New("the name of the image has no suffix for the file system type")
	}
	loop, err := storage.LoopAttach(source, storage.LoopOptions{ReadOnly: true, FirstIndex: max(0, m.LoopBase)})
	if err != nil {
		return err
	}
	defer loop.Close()
	for _, data := range loopTries(fstype) {
		if err = s.mount(loop.Path, target, fstype, unix.MS_RDONLY, data); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%s as %s: %w", source, fstype, err)
}

// storage mounts a directory that the container may write to.
func (m *Mounter) storage(s *Set, name string, v manifest.Volume) error {
	target, err := s.target(v.Name, false)
	if err != nil {
		return err
	}
	if err := m.knownDisk(v.Disk); err != nil {
		return err
	}
	var source string
	switch v.Persistence {
	case "permanent":
		source = filepath.Join(m.Disks, "perm", name, v.Name)
	case "revision":
		source = filepath.Join(m.Disks, "rev", m.Rev, name, v.Name)
	default:
		if source, err = m.boot().open(m.VolDir, name, v.Name); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(source, 0o755); err != nil {
		return err
	}
	return s.mount(source, target, "", unix.MS_BIND, "")
}

// knownDisk returns an error for a disk of an unsupported type: data that is meant to be
// encrypted must not be written unencrypted.
func (m *Mounter) knownDisk(name string) error {
	if m.Disk == nil {
		return nil
	}
	d, ok := m.Disk(name)
	switch {
	case !ok && name != "":
		return fmt.Errorf("there is no disk %s in device.json", name)
	case ok && d.Type != "directory":
		return fmt.Errorf("disk %s has the unsupported type %s", d.Name, d.Type)
	}
	return nil
}

// overlay copies the configuration overlay and follows its links, so that the container
// can neither change the revision nor see later changes of it.
func (m *Mounter) overlay(s *Set, name string) error {
	source := filepath.Join(m.Trail, "_config", name)
	if _, err := os.Stat(source); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	s.Config = filepath.Join(m.ConfDir, name)
	if err := os.RemoveAll(s.Config); err != nil {
		return err
	}
	return copyTree(source, s.Config)
}

// Unmount unmounts everything. A mount in use disappears when its last user ends.
func (s *Set) Unmount() error {
	var errs []error
	for _, t := range slices.Backward(s.targets) {
		err := unix.Unmount(t, unix.UMOUNT_NOFOLLOW)
		if err == unix.EBUSY {
			err = unix.Unmount(t, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
		}
		if err != nil && err != unix.EINVAL {
			errs = append(errs, fmt.Errorf("unmounting %s: %w", t, err))
		}
	}
	if s.targets = nil; len(errs) == 0 {
		errs = append(errs, removeEmpty(s.dir))
	}
	if s.Config != "" {
		errs = append(errs, os.RemoveAll(s.Config))
	}
	return errors.Join(errs...)
}

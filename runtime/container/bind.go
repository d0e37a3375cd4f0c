package container

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Bind mounts are made on descriptors (open_tree(2), move_mount(2)) rather than by
// mount(2) on names in /proc/self/fd: the kernel allocates an inode for each name.

// cloneMount returns a detached copy of the mount at a path; path "" is the descriptor
// itself. rec is MS_REC to include the mounts below, else 0.
func cloneMount(dir int, path string, rec uintptr) (int, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if path == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	if rec != 0 {
		flags |= unix.AT_RECURSIVE
	}
	return unix.OpenTree(dir, path, flags)
}

// moveMount attaches a mount of cloneMount to an open path.
func moveMount(tree, target int) error {
	return unix.MoveMount(tree, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// attach attaches a mount of cloneMount to a path of the container, which it makes as
// [stage.target] does. It always closes tree.
func (s *stage) attach(tree int, p, create string) error {
	defer unix.Close(tree)
	fd, err := s.target(p, create)
	if err != nil {
		return wrapPath(p, err)
	}
	defer unix.Close(fd)
	return wrapPath(p, moveMount(tree, fd))
}

// bind bind-mounts a path on an open path, whose name in the container is p. Of the
// MS_* flags it uses MS_REC and the mount options; options that the mount below
// already has are kept.
func (s *stage) bind(dir int, path string, target int, p string, flags uintptr) error {
	tree, err := cloneMount(dir, path, flags&unix.MS_REC)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	attr := mountAttr(flags)
	if attr != (unix.MountAttr{}) {
		err = mountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr)
	}
	old := errors.Is(err, unix.ENOSYS) // before Linux 5.12
	if err != nil && !old {
		return fmt.Errorf("setting the options of the mount: %w", err)
	}
	if err := moveMount(tree, target); err != nil || !old {
		return err
	}
	return s.remount(p, flags&^(unix.MS_BIND|unix.MS_REC))
}

// mountSetattr is the system call. Tests replace it.
var mountSetattr = unix.MountSetattr

// mountAttrs maps flags of mount(2) to attributes of mount_setattr(2).
var mountAttrs = [...]struct {
	flag uintptr
	attr uint64
}{
	{unix.MS_RDONLY, unix.MOUNT_ATTR_RDONLY}, {unix.MS_NOSUID, unix.MOUNT_ATTR_NOSUID}, {unix.MS_NODEV, unix.MOUNT_ATTR_NODEV},
	{unix.MS_NOEXEC, unix.MOUNT_ATTR_NOEXEC}, {unix.MS_NODIRATIME, unix.MOUNT_ATTR_NODIRATIME},
}

// mountAttr translates the options of mount(2); the access times are one setting with
// three values, of which MS_RELATIME is 0.
func mountAttr(flags uintptr) (a unix.MountAttr) {
	for _, m := range mountAttrs {
		if flags&m.flag != 0 {
			a.Attr_set |= m.attr
		}
	}
	if flags&(unix.MS_NOATIME|unix.MS_RELATIME|unix.MS_STRICTATIME) == 0 {
		return a
	}
	a.Attr_clr = unix.MOUNT_ATTR__ATIME
	switch {
	case flags&unix.MS_STRICTATIME != 0: // wins in mount(2), too
		a.Attr_set |= unix.MOUNT_ATTR_STRICTATIME
	case flags&unix.MS_NOATIME != 0:
		a.Attr_set |= unix.MOUNT_ATTR_NOATIME
	}
	return a
}

// lockedFlags returns the options of the mount below that a bind mount must keep.
func lockedFlags(fd int) uintptr {
	var st unix.Statfs_t
	if unix.Fstatfs(fd, &st) != nil {
		return 0
	}
	return uintptr(st.Flags) & (unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
}

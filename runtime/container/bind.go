package container

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Bind mounts are made on descriptors (open_tree(2), move_mount(2)) rather than by
// mount(2) on names in /proc/self/fd, each of which costs the kernel an inode.

// cloneMount takes a copy of what a path shows, not mounted anywhere yet; path "" is
// the descriptor itself. rec is MS_REC when the mounts below belong to it, else 0.
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

// moveMount mounts what cloneMount took on an open path.
func moveMount(tree, target int) error {
	return unix.MoveMount(tree, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// attach mounts what cloneMount took on a path of the container, and makes that as
// [stage.target] does. The copy is closed in any case.
func (s *stage) attach(tree int, p, create string) error {
	defer unix.Close(tree)
	fd, err := s.target(p, create)
	if err != nil {
		return wrapPath(p, err)
	}
	defer unix.Close(fd)
	return wrapPath(p, moveMount(tree, fd))
}

// bind binds what a path shows on an open path, whose name in the container is p. Of
// the MS_* flags it heeds MS_REC and the options of a mount; what the mount below has
// of them stays.
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
		return fmt.Errorf("its options: %w", err)
	}
	if err := moveMount(tree, target); err != nil || !old {
		return err
	}
	return s.remount(p, flags&^(unix.MS_BIND|unix.MS_REC))
}

// mountSetattr is the system call. Tests replace it.
var mountSetattr = unix.MountSetattr

// mountAttrs are the options of a mount by mount(2)'s flags.
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

// lockedFlags are those of the file system below that a bind mount must not lose.
func lockedFlags(fd int) uintptr {
	var st unix.Statfs_t
	if unix.Fstatfs(fd, &st) != nil {
		return 0
	}
	return uintptr(st.Flags) & (unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
}

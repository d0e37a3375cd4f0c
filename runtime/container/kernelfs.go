package container

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Files of /proc that show or change the device as a whole (OCI runtime
// specification, masked and read-only paths). Most of them need no capability but only
// user 0: /proc/scsi/scsi can remove disks, /proc/acpi/wakeup disables the power button.
var (
	procMasked   = []string{"/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug"}
	procReadOnly = []string{"/proc/acpi", "/proc/asound", "/proc/bus", "/proc/driver", "/proc/dynamic_debug", "/proc/fs", "/proc/irq",
		"/proc/scsi", "/proc/sys", "/proc/sysrq-trigger"}
)

const kernelFlags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// mountFixed mounts one of the kernel's file systems on a directory, which it makes.
func (s *stage) mountFixed(target, fstype string, flags uintptr, data string) error {
	fd, err := makeDirIn(s.root, target)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Mount(fstype, fdPath(fd), fstype, flags, data)
}

// mountProc mounts /proc; see protectProc for the files that are masked.
func (s *stage) mountProc() error {
	if s.plan.Proc == AutoNone {
		return nil
	}
	return s.mountFixed("/proc", "proc", kernelFlags, "")
}

// protectProc masks or makes read-only the files that belong to the device. The
// settings of the container's own network stay writable unless all of /proc is to be
// read-only.
func (s *stage) protectProc() error {
	if s.plan.Proc != AutoMixed && s.plan.Proc != AutoReadOnly {
		return nil
	}
	net := -1
	if s.plan.Proc == AutoMixed {
		net = s.copyInside("/proc/sys/net")
	}
	for _, p := range procReadOnly {
		if err := s.bindSelf(p, unix.MS_RDONLY); err != nil {
			return err
		}
	}
	if net >= 0 {
		if err := s.attach(net, "/proc/sys/net", ""); err != nil {
			return err
		}
	}
	for _, p := range procMasked {
		if err := s.mask(p); err != nil {
			return err
		}
	}
	return nil
}

// mountSys mounts /sys, by default read-only.
func (s *stage) mountSys() error {
	if s.plan.Sys == AutoNone {
		return nil
	}
	if err := s.mountFixed("/sys", "sysfs", kernelFlags, ""); err != nil {
		return err
	}
	if s.plan.Sys == AutoReadWrite {
		return nil
	}
	net := -1
	if s.plan.Sys == AutoMixed {
		net = s.copyInside("/sys/devices/virtual/net")
	}
	if err := s.remount("/sys", unix.MS_RDONLY); err != nil {
		return err
	}
	if net < 0 {
		return nil
	}
	return s.attach(net, "/sys/devices/virtual/net", "")
}

// mountCgroup mounts the container's own control group. In the device's cgroup namespace
// the file system shows the device's whole tree.
func (s *stage) mountCgroup() error {
	if s.plan.Cgroup == AutoNone || !s.plan.CgroupV2 {
		return nil
	}
	if err := s.mountFixed("/sys/fs/cgroup", "cgroup2", kernelFlags, ""); err != nil {
		return err
	}
	if err := s.narrowCgroup(); err != nil {
		return err
	}
	if s.plan.Cgroup == AutoReadOnly {
		return s.remount("/sys/fs/cgroup", unix.MS_RDONLY)
	}
	return nil
}

// narrowCgroup leaves of the mounted tree only the group that this process is in.
func (s *stage) narrowCgroup() error {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return err
	}
	own, ok := ownGroup(string(text), "0::")
	if !ok {
		return errors.New("the process has no cgroup v2 group")
	}
	if own == "/" {
		return nil
	}
	fd, err := s.inside("/sys/fs/cgroup"+own, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return wrapPath(own, err)
	}
	tree, err := cloneMount(fd, "", 0)
	_ = unix.Close(fd)
	if err != nil {
		return wrapPath(own, err)
	}
	if err := s.unmount("/sys/fs/cgroup"); err != nil {
		_ = unix.Close(tree)
		return err
	}
	return s.attach(tree, "/sys/fs/cgroup", "")
}

// unmount detaches the uppermost mount at a path of the container.
func (s *stage) unmount(p string) error {
	fd, err := s.inside(p, unix.O_PATH)
	if err != nil {
		return wrapPath(p, err)
	}
	defer unix.Close(fd)
	return wrapPath(p, unix.Unmount(fdPath(fd), unix.MNT_DETACH))
}

// copyInside returns a detached copy of the container's mount at p as it is now; -1
// when p does not exist.
func (s *stage) copyInside(p string) int {
	fd, err := s.inside(p, unix.O_PATH)
	if err != nil {
		return -1
	}
	defer unix.Close(fd)
	tree, err := cloneMount(fd, "", 0)
	if err != nil {
		return -1
	}
	return tree
}

// bindSelf makes a path a mount of its own, with more options. It skips a path that
// the kernel does not have.
func (s *stage) bindSelf(p string, flags uintptr) error {
	fd, err := s.inside(p, unix.O_PATH)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return wrapPath(p, err)
	}
	defer unix.Close(fd)
	return wrapPath(p, s.bind(fd, "", fd, p, flags))
}

// remount adds options to a mount.
func (s *stage) remount(p string, flags uintptr) error {
	fd, err := s.inside(p, unix.O_PATH)
	if err != nil {
		return wrapPath(p, err)
	}
	defer unix.Close(fd)
	return wrapPath(p, unix.Mount("", fdPath(fd), "", unix.MS_REMOUNT|unix.MS_BIND|flags|lockedFlags(fd), ""))
}

// mask mounts a null device over a file: the container's own, if it has one, because
// user 0 in the container could change the owner and the mode of the device's.
func (s *stage) mask(p string) error {
	fd, err := s.inside(p, unix.O_PATH)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return wrapPath(p, err)
	}
	defer unix.Close(fd)
	if null, err := s.inside("/dev/null", unix.O_PATH); err == nil {
		defer unix.Close(null)
		if s.plan.Autodev && isNull(null) {
			return wrapPath(p, s.bind(null, "", fd, p, 0))
		}
	}
	return wrapPath(p, s.bind(unix.AT_FDCWD, "/dev/null", fd, p, unix.MS_RDONLY))
}

func wrapPath(p string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	return nil
}

// isNull reports whether an open file is a null device (the kernel's
// Documentation/admin-guide/devices.txt).
func isNull(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && uint64(st.Rdev) == unix.Mkdev(1, 3) //nolint:unconvert // width differs between architectures
}

package logs

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// openIn opens a path below a container's root; ".." and links cannot leave it.
func openIn(root *os.File, name string, flags int) (*os.File, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_IN_ROOT}
	for try := 0; ; try++ {
		fd, err := unix.Openat2(int(root.Fd()), name, &how)
		// The kernel gives up when names change meanwhile (openat2(2), EAGAIN).
		if err == nil {
			return os.NewFile(uintptr(fd), name), nil
		}
		if err != unix.EAGAIN && err != unix.EINTR || try == 1000 {
			return nil, &os.PathError{Op: "open", Path: name, Err: err}
		}
	}
}

func procPath(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }

// kernelFilesystems hold no log files: their content comes from the kernel, and the
// runtime may read files there that the container may not. FUSE can block a reader for
// ever.
var kernelFilesystems = map[uint32]string{
	unix.PROC_SUPER_MAGIC: "proc", unix.SYSFS_MAGIC: "sysfs", unix.DEBUGFS_MAGIC: "debugfs",
	unix.TRACEFS_MAGIC: "tracefs", unix.CGROUP_SUPER_MAGIC: "cgroup", unix.CGROUP2_SUPER_MAGIC: "cgroup2",
	unix.SECURITYFS_MAGIC: "securityfs", unix.SELINUX_MAGIC: "selinuxfs", unix.EFIVARFS_MAGIC: "efivarfs",
	unix.BPF_FS_MAGIC: "bpf", unix.PSTOREFS_MAGIC: "pstore", unix.FUSE_SUPER_MAGIC: "fuse", configfsMagic: "configfs",
}

const configfsMagic = 0x62656570 // CONFIGFS_MAGIC of linux/magic.h

// plain returns an error for anything but a regular file of a real file system.
func plain(fd int, st *unix.Stat_t) error {
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return errors.New("it is not a plain file and is not followed")
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return fmt.Errorf("reading the type of its file system: %w", err)
	}
	if name, bad := kernelFilesystems[uint32(fs.Type)]; bad {
		return fmt.Errorf("it is on a file system of type %s and is not followed", name)
	}
	return nil
}

func sizeOf(f *os.File) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// fileID distinguishes a file from one that later has the same name or inode number.
type fileID struct {
	Dev   uint64 `json:"dev"`
	Inode uint64 `json:"ino"`
	Birth int64  `json:"birth"` // nanoseconds since 1970; 0 when the file system does not record it
}

func identityOf(fd int, st *unix.Stat_t) fileID {
	id := fileID{Dev: uint64(st.Dev), Inode: uint64(st.Ino)} //nolint:unconvert // width differs between architectures
	var x unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BTIME, &x)
	if err == nil && x.Mask&unix.STATX_BTIME != 0 {
		id.Birth = x.Btime.Sec*1e9 + int64(x.Btime.Nsec)
	}
	return id
}

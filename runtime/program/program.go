// Package program runs this program in containers so that they cannot write to its
// file.
//
// Processes in a container can open the file of a process that runs this program
// through /proc/PID/exe, and an init that begins with "#!/proc/self/exe" is such a
// process for as long as it wants. So the runtime executes the program there from a
// detached read-only mount.
package program

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// self is the kernel's link to this program.
const self = "/proc/self/exe"

// envFile is the environment variable with the program's path for a process that runs
// from the read-only mount, which has no path.
const envFile = "PV_PROGRAM_FILE"

// Path returns the path to execute for a process of this program that containers can
// see: the program in the read-only mount. It is valid while this process runs, also in
// its children. Before Linux 5.12 there are no such mounts, and Path returns the
// program's ordinary path.
var Path = sync.OnceValue(func() string {
	path, err := seal()
	if err != nil {
		return self
	}
	return path
})

// seal makes the read-only mount. Its descriptor stays open; the path has the PID of
// this process, because children do not have the descriptor.
func seal() (string, error) {
	tree, err := unix.OpenTree(unix.AT_FDCWD, self, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return "", fmt.Errorf("copying the mount of this program: %w", err)
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		_ = unix.Close(tree)
		return "", fmt.Errorf("making the mount of this program read-only: %w", err)
	}
	return "/proc/" + strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(tree), nil
}

// sealed reports whether this process runs from a read-only mount.
func sealed() bool {
	var st unix.Statfs_t
	return unix.Statfs(self, &st) == nil && st.Flags&unix.ST_RDONLY != 0
}

// Rerun executes this program again from the read-only mount, with the same arguments.
// It returns nil when the program already runs from there, or the kernel has no such
// mounts.
func Rerun() error {
	if sealed() || Path() == self {
		return nil
	}
	file, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding the file of this program: %w", err)
	}
	env := append(os.Environ(), envFile+"="+file)
	return fmt.Errorf("executing this program again: %w", syscall.Exec(Path(), os.Args, env))
}

// File returns the path of the program's file, as [os.Executable] does, also after
// [Rerun].
func File() (string, error) {
	if file := os.Getenv(envFile); file != "" && sealed() {
		return file, nil
	}
	return os.Executable()
}

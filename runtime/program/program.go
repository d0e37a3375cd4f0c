// Package program is this program's own file, for processes that run it where others
// must not write to it.
//
// To everybody in a container, /proc/PID/exe of a process that runs this program is a
// way to its file, and an init whose first line is "#!/proc/self/exe" is such a process
// for as long as it likes. So what is run there comes from a mount of its own, which is
// read-only and which nobody else has.
package program

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// self is this program as the kernel names it.
const self = "/proc/self/exe"

// envFile holds the program's path for a run of it from the read-only mount, which has
// no name.
const envFile = "PV_PROGRAM_FILE"

// Path is what to execute for a process of this program that meets others: a way to the
// read-only mount, good for as long as this process runs, also in its children. A kernel
// before Linux 5.12 has no such mounts; there it is the program as it is.
var Path = sync.OnceValue(func() string {
	path, err := seal()
	if err != nil {
		return self
	}
	return path
})

// seal makes the read-only mount. Its descriptor stays open; children find it by this
// process's number, for they have other descriptors.
func seal() (string, error) {
	tree, err := unix.OpenTree(unix.AT_FDCWD, self, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return "", fmt.Errorf("taking a mount of this program: %w", err)
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		_ = unix.Close(tree)
		return "", fmt.Errorf("making the mount of this program read-only: %w", err)
	}
	return "/proc/" + strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(tree), nil
}

// Sealed reports whether this process runs from a read-only mount, where nobody can write
// to its file through it.
func Sealed() bool {
	var st unix.Statfs_t
	return unix.Statfs(self, &st) == nil && st.Flags&unix.ST_RDONLY != 0
}

// Rerun runs this program anew from the read-only mount, with the same words, unless it
// runs there already or the kernel has no such mounts. It returns only then.
func Rerun() error {
	if Sealed() || Path() == self {
		return nil
	}
	file, err := os.Executable()
	if err != nil {
		return fmt.Errorf("looking for this program: %w", err)
	}
	env := append(os.Environ(), envFile+"="+file)
	return fmt.Errorf("running this program anew: %w", syscall.Exec(Path(), os.Args, env))
}

// File is the path of the program's file, as [os.Executable] has it, also after [Rerun].
func File() (string, error) {
	if file := os.Getenv(envFile); file != "" && Sealed() {
		return file, nil
	}
	return os.Executable()
}

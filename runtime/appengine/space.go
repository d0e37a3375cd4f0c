package appengine

import (
	"fmt"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/program"
)

// envSpace holds the mount namespace that this program has made for itself. It
// counts only within that namespace, so that a child that inherits it makes its own.
const envSpace = "PV_APPENGINE_SPACE"

// ownMounts puts the program into a mount namespace of its own: it comes back there,
// in a new run of the program, from a copy that containers cannot change. A namespace cannot be left by one thread of many, and
// a program that begins has one.
func ownMounts() error {
	now, err := os.Readlink("/proc/thread-self/ns/mnt")
	if err != nil {
		return fmt.Errorf("looking for this process's mount namespace: %w", err)
	}
	if os.Getenv(envSpace) == now {
		return nil
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("making a mount namespace: %w", err)
	}
	// Slave: media that the machine unmounts go away here too.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("separating the mount namespace: %w", err)
	}
	if now, err = os.Readlink("/proc/thread-self/ns/mnt"); err != nil {
		return fmt.Errorf("looking for the new mount namespace: %w", err)
	}
	if err := os.Setenv(envSpace, now); err != nil {
		return fmt.Errorf("entering the mount namespace: %w", err)
	}
	return fmt.Errorf("entering the mount namespace: %w", program.Exec())
}

// owner tells who may speak as the runtime: the root user of this machine, outside of
// all containers.
func owner() func(pid int, group string) bool {
	space, err := os.Readlink("/proc/self/ns/pid")
	return func(pid int, group string) bool {
		if err != nil || group == "/"+base || strings.HasPrefix(group, "/"+base+"/") {
			return false
		}
		proc := path.Join("/proc", strconv.Itoa(pid))
		theirs, err := os.Readlink(proc + "/ns/pid")
		return err == nil && theirs == space && isRoot(proc+"/status")
	}
}

// isRoot reads the effective user of a process (proc(5), status).
func isRoot(status string) bool {
	text, err := os.ReadFile(status)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		if ids, ok := strings.CutPrefix(line, "Uid:"); ok {
			f := strings.Fields(ids)
			return len(f) > 1 && f[1] == "0"
		}
	}
	return false
}

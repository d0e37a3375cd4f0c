package init

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// earlyMount is a file system of the kernel that everything else needs.
type earlyMount struct {
	target, typ string
	flags       uintptr
	data        string
	optional    bool
}

const plain = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// earlyMountList in the order of mounting. /dev allows executing: old programs map
// /dev/zero that way.
var earlyMountList = []earlyMount{
	{target: "/proc", typ: "proc", flags: plain},
	{target: "/sys", typ: "sysfs", flags: plain},
	{target: "/dev", typ: "devtmpfs", flags: unix.MS_NOSUID, data: "mode=0755"},
	{target: "/dev/pts", typ: "devpts", flags: unix.MS_NOSUID | unix.MS_NOEXEC, data: "mode=0620,gid=5,ptmxmode=0666"},
	{target: "/dev/shm", typ: "tmpfs", flags: unix.MS_NOSUID | unix.MS_NODEV, data: "mode=1777"},
	{target: "/run", typ: "tmpfs", flags: unix.MS_NOSUID | unix.MS_NODEV, data: "mode=0755"},
	{target: "/tmp", typ: "tmpfs", flags: unix.MS_NOSUID | unix.MS_NODEV, data: "mode=1777"},
	{target: "/sys/fs/cgroup", typ: "cgroup2", flags: plain, data: "nsdelegate"},
	{target: "/sys/fs/pstore", typ: "pstore", flags: plain, optional: true},
}

// runDirectories are in the initrd below /run, which the tmpfs hides.
var runDirectories = []string{"/run/pantavisor/pv", "/run/pantavisor/media", "/run/pantavisor/configs"}

// earlyMounts makes the root one that pivot_root accepts, mounts the kernel's
// file systems and opens the log.
func (m *machine) earlyMounts(context.Context) error {
	rooted := pivotable()
	for _, e := range earlyMountList {
		err := e.mount()
		if e.target == "/proc" {
			m.bootCPU = busyTicks("/proc/stat")
		}
		if err != nil && !e.optional {
			return err
		}
	}
	for _, dir := range runDirectories {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("making a directory below /run: %w", err)
		}
	}
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"} {
		_ = os.Symlink(target, "/dev/"+name) // there already on a second start
	}
	m.journal.open()
	quietKernel()
	m.log.Infof("process 1 of pantavisor starts")
	return rooted
}

func (e earlyMount) mount() error {
	if err := os.MkdirAll(e.target, 0o755); err != nil {
		return fmt.Errorf("making mount point: %w", err)
	}
	err := unix.Mount(e.typ, e.target, e.typ, e.flags, e.data)
	if errors.Is(err, unix.EBUSY) { // the kernel has done it
		return nil
	}
	if err != nil {
		return fmt.Errorf("mounting %s on %s: %w", e.typ, e.target, err)
	}
	return nil
}

// pivotable puts a mount over the initramfs. pivot_root(2) refuses the initramfs
// itself, and every container needs it; a bind of it that takes its place is a
// mount like any other.
func pivotable() error {
	const stage = "/.root"
	if err := os.MkdirAll(stage, 0o755); err != nil {
		return fmt.Errorf("preparing the root: %w", err)
	}
	for _, step := range []func() error{
		func() error { return unix.Mount("/", stage, "", unix.MS_BIND, "") },
		func() error { return unix.Chdir(stage) },
		func() error { return unix.Mount(".", "/", "", unix.MS_MOVE, "") },
		func() error { return unix.Chroot(".") },
		func() error { return unix.Chdir("/") },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("moving the root for pivot_root: %w", err)
		}
	}
	_ = os.Remove(stage)
	return nil
}

// busyTicks sums what all processors did in a /proc/stat, in clock ticks: user,
// nice, system, irq, softirq and steal; idle and iowait do not count as work.
func busyTicks(path string) uint64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return 0
	}
	sum := uint64(0)
	for i, v := range f[1:9] {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			return 0
		}
		if i != 3 && i != 4 {
			sum += n
		}
	}
	return sum
}

// consoleLevel lets the kernel's errors through to the console, not its chatter,
// which would run into the debug shell.
const consoleLevel = "4"

// quietKernel sets the kernel's console level unless the command line has asked
// for a certain one, and lets all of our lines into the kernel log.
func quietKernel() {
	_ = os.WriteFile("/proc/sys/kernel/printk_devkmsg", []byte("on\n"), 0) // else 10 lines in 5 s; not without a newline
	line, _ := os.ReadFile("/proc/cmdline")
	for _, w := range strings.Fields(string(line)) {
		if w == "debug" || w == "ignore_loglevel" || strings.HasPrefix(w, "loglevel=") {
			return
		}
	}
	_ = os.WriteFile("/proc/sys/kernel/printk", []byte(consoleLevel), 0)
}

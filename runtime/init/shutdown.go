package init

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/octal"
	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/logs"
	"github.com/pantavisor/pantavisor/runtime/shell"
	"github.com/pantavisor/pantavisor/runtime/storage"
	"github.com/pantavisor/pantavisor/runtime/watchdog"
)

const (
	termGrace    = 5 * time.Second // from SIGTERM to SIGKILL
	killGrace    = 3 * time.Second // from SIGKILL on; a process in the kernel may stay
	unmountGrace = 5 * time.Second // for mounts that a dying container still holds
	unmountRetry = 20 * time.Millisecond
)

// end takes the machine down. It does not fail: what does not work is logged and
// the next step is tried.
func (m *machine) end(o outcome) {
	defer func() {
		if r := recover(); r != nil {
			m.log.Fatalf("defect in the shutdown: %v", r)
			restart(o.action)
		}
	}()
	level := logs.Info
	if o.failed {
		level = logs.Fatal
	}
	m.journal.Log("", "init", level, fmt.Sprintf("%v: %s", o.action, o.reason))
	if o.failed && o.action == reboot {
		m.pause()
	}
	m.hold()
	m.entering(o.action)
	m.stop()
	m.killAll()
	m.unmount()
	if o.action == powerOff {
		m.stage(watchdog.PoweringOff)
	}
	m.log.Infof("%v", o.action)
	unix.Sync()
	restart(o.action)
}

// hold waits for an open debug shell.
func (m *machine) hold() {
	timeout := m.config.Duration(config.DebugShellTimeout)
	shell.Hold(context.Background(), shell.Marker, timeout, nil, func(s string) { m.log.Named("shell").Infof("%s", s) })
}

// killAll ends every other process: first asked, then killed.
func (m *machine) killAll() {
	if m.reaper == nil {
		return
	}
	for _, step := range []struct {
		signal unix.Signal
		grace  time.Duration
	}{{unix.SIGTERM, termGrace}, {unix.SIGKILL, killGrace}} {
		if err := unix.Kill(-1, step.signal); errors.Is(err, unix.ESRCH) {
			return
		}
		_ = unix.Kill(-1, unix.SIGCONT) // a stopped process does not hear SIGTERM
		select {
		case <-m.reaper.alone():
			return
		case <-time.After(step.grace):
			m.log.Warnf("processes are left %v after signal %d", step.grace, step.signal)
		}
	}
}

// unmount unmounts everything that holds data and makes sure that the storage's
// device is free, which is when its file system is clean.
func (m *machine) unmount() {
	unix.Sync()
	deadline := time.Now().Add(unmountGrace)
	for left := unmountBelow("/"); len(left) > 0; left = unmountBelow("/") {
		if time.Now().After(deadline) {
			for _, l := range left {
				m.log.Warnf("%s stays mounted", l)
			}
			remountReadOnly(left)
			break
		}
		time.Sleep(unmountRetry)
	}
	if err := storage.DetachLoops(); err != nil {
		m.log.Warnf("%v", err)
	}
	if m.device == "" {
		return
	}
	for !unused(m.device) {
		if time.Now().After(deadline) {
			m.log.Warnf("%s is still in use somewhere; its journal will be replayed", m.device)
			return
		}
		time.Sleep(unmountRetry)
	}
}

// kernelTypes are file systems without data of their own; they may stay.
var kernelTypes = []string{"proc", "sysfs", "devtmpfs", "devpts", "cgroup", "cgroup2", "rootfs", "ramfs", "securityfs",
	"pstore", "debugfs", "tracefs", "mqueue", "bpf", "efivarfs", "configfs", "fusectl", "binfmt_misc", "nsfs"}

// unmountBelow unmounts what is mounted below root, last first, and returns the
// mount points that are left, but for those in memory, which lose nothing.
func unmountBelow(root string) []string {
	mounts, err := readMounts("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	slices.Reverse(mounts)
	var left []string
	for _, mnt := range mounts {
		if mnt.target == root || !strings.HasPrefix(mnt.target, strings.TrimSuffix(root, "/")+"/") || slices.Contains(kernelTypes, mnt.typ) {
			continue
		}
		err := unix.Unmount(mnt.target, unix.UMOUNT_NOFOLLOW)
		if err != nil && !errors.Is(err, unix.EINVAL) && mnt.typ != "tmpfs" {
			left = append(left, mnt.target)
		}
	}
	return left
}

// remountReadOnly is the last resort for a file system in use: what is written is
// complete, and nothing more comes.
func remountReadOnly(targets []string) {
	unix.Sync()
	for _, t := range targets {
		_ = unix.Mount("", t, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
	}
}

// unused reports whether no file system in any namespace uses a device. A device
// that has gone is unused.
func unused(dev string) bool {
	f, err := os.OpenFile(dev, os.O_RDONLY|unix.O_EXCL, 0)
	if err != nil {
		return !errors.Is(err, unix.EBUSY)
	}
	_ = f.Close()
	return true
}

// mount is one line of mountinfo.
type mount struct{ target, typ string }

// readMounts lists the mounts of this namespace in the order of mounting (proc(5),
// /proc/[pid]/mountinfo).
func readMounts(path string) ([]mount, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("listing the mounts: %w", err)
	}
	var out []mount
	for line := range strings.Lines(string(b)) {
		before, after, ok := strings.Cut(line, " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if ok && len(f) >= 5 && len(g) >= 1 {
			out = append(out, mount{octal.Unescape(f[4]), g[0]})
		}
	}
	return out, nil
}

// restart asks the kernel for the end. When it refuses a power-off the machine is
// rebooted: a device must not stay in between.
func restart(a action) {
	if a == powerOff {
		_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	}
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	_ = os.WriteFile("/proc/sysrq-trigger", []byte("b"), 0)
}

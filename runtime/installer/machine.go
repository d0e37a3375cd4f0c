package installer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/flash"
	"github.com/pantavisor/pantavisor/runtime/modules"
	"github.com/pantavisor/pantavisor/runtime/storage"
	"github.com/pantavisor/pantavisor/runtime/uevent"
)

// mediumDir is where the installation medium is mounted.
const mediumDir = "/medium"

// findTime is how long the medium may take to appear.
const findTime = 60 * time.Second

// Main is process 1. The kernel gives it what it does not know itself of its command line
// as environment variables: pv_boot_partuuid, the partition of the medium with the image;
// pv_install_wait, the count-down in seconds; pv_install_ask=no for a silent installation.
func Main(ctx context.Context) {
	mounted := mountKernel()
	m := &machine{}
	m.screen, m.keys = openConsoles()
	how, err := m.run(ctx, mounted)
	if err != nil {
		m.screen.print("\nThe installer cannot go on: %v\nPress a key to switch off.\n", err)
		<-m.keys
	}
	m.screen.finish(finishTime)
	how.carryOut()
}

// finishTime is how long slow consoles may take for the last texts.
const finishTime = 2 * time.Second

// machine is the machine that is booted from the installation medium.
type machine struct {
	screen *screen
	keys   <-chan byte
}

// run installs; mounted is how mounting the kernel's file systems ended.
func (m *machine) run(ctx context.Context, mounted error) (end, error) {
	if mounted != nil {
		return powerOff, mounted
	}
	quiet()
	if err := m.drivers(ctx); err != nil {
		return powerOff, err
	}
	image, err := findImage(ctx)
	if err != nil {
		return powerOff, err
	}
	opened, err := flash.Open(ctx, image)
	if err != nil {
		return powerOff, err
	}
	size := opened.Size
	if err := opened.Close(); err != nil {
		return powerOff, err
	}
	second := time.NewTicker(time.Second)
	defer second.Stop()
	wait, err := strconv.Atoi(os.Getenv("pv_install_wait"))
	if err != nil || wait < 0 {
		wait = defaultWait
	}
	s := &session{
		screen: m.screen, keys: m.keys, second: second.C, image: image, size: size,
		wait: wait, silent: os.Getenv("pv_install_ask") == "no", disks: flash.Disks, install: m.install(image),
	}
	return s.run(ctx)
}

// defaultWait is the count-down in seconds when the command line does not say.
const defaultWait = 15

// install returns the function that writes the image to a disk.
func (m *machine) install(image string) func(context.Context, flash.Disk, func(flash.Phase, int64, int64)) error {
	return func(ctx context.Context, d flash.Disk, progress func(flash.Phase, int64, int64)) error {
		opened, err := flash.Open(ctx, image)
		if err != nil {
			return err
		}
		defer opened.Close()
		_, err = flash.Write(ctx, opened, d.Path, flash.Options{Progress: progress})
		return err // that the kernel has the old table does not matter: a restart follows
	}
}

// mountKernel mounts the file systems of the kernel.
func mountKernel() error {
	for _, m := range []struct{ target, typ string }{{"/proc", "proc"}, {"/sys", "sysfs"}, {"/dev", "devtmpfs"}} {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.typ, m.target, m.typ, unix.MS_NOSUID|unix.MS_NOEXEC, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mounting %s: %w", m.target, err)
		}
	}
	return nil
}

// quiet keeps the kernel's messages off the consoles, all but those of emergencies
// (syslog(2), SYSLOG_ACTION_CONSOLE_LEVEL).
func quiet() {
	const consoleLevel = 8
	_, _, _ = unix.Syscall(unix.SYS_SYSLOG, consoleLevel, 0, 1) // then the menu is harder to read
}

// drivers loads those of the initrd: for the devices that are there, for the file system of
// the medium, and for devices that come later.
func (m *machine) drivers(ctx context.Context) error {
	dir, err := modules.Directory("/")
	if err != nil {
		return err
	}
	loader := modules.NewLoader(dir)
	loader.Idle = func(error) {}
	events, err := uevent.Listen()
	if err != nil {
		return err
	}
	report := func(err error) { m.screen.print("%v\n", err) }
	settings, err := modules.Read("/etc/modprobe.d", "/proc/cmdline")
	if err != nil {
		report(err)
	}
	loader.Settings = settings
	if _, err := loader.ColdPlug(ctx, nil); err != nil {
		report(err)
	}
	if err := loader.Load(mediumModules...); err != nil && !errors.Is(err, modules.ErrUnknown) {
		report(err)
	}
	go func() { _ = loader.HotPlug(ctx, events, report) }() // it ends with the machine
	return nil
}

// mediumModules are what mounting the medium and a USB keyboard need, unless the kernel has
// them built in.
var mediumModules = []string{"vfat", "nls_cp437", "usbhid", "hid_generic"}

// findImage mounts the installation medium and returns the path of the one image on it.
func findImage(ctx context.Context) (string, error) {
	part := os.Getenv("pv_boot_partuuid")
	if part == "" {
		return "", errors.New("pv_boot_partuuid is missing on the kernel's command line: it names the partition with the image")
	}
	ctx, cancel := context.WithTimeout(ctx, findTime)
	defer cancel()
	found, _, err := storage.Find(ctx, storage.Want{Spec: "PARTUUID=" + part, BootPart: part})
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(mediumDir, 0o755); err != nil {
		return "", err
	}
	// One table for both codings of names spares a module.
	const options = "codepage=437,iocharset=cp437"
	if err := unix.Mount(found.Path, mediumDir, "vfat", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options); err != nil {
		return "", fmt.Errorf("mounting %s: %w", found.Path, err)
	}
	return onlyImage(mediumDir)
}

// onlyImage returns the path of the image in a directory.
func onlyImage(dir string) (string, error) {
	all, err := filepath.Glob(filepath.Join(dir, "*.img*"))
	all = slices.DeleteFunc(all, func(name string) bool { return strings.HasSuffix(name, ".bmap") })
	if err != nil || len(all) != 1 {
		return "", fmt.Errorf("the installation medium has %d images (*.img*), want one", len(all))
	}
	return all[0], nil
}

// carryOut ends this program, and with it the machine.
func (e end) carryOut() {
	_ = unix.Unmount(mediumDir, 0)
	unix.Sync()
	command := unix.LINUX_REBOOT_CMD_RESTART
	if e == powerOff {
		command = unix.LINUX_REBOOT_CMD_POWER_OFF
	}
	err := unix.Reboot(command)
	fmt.Fprintf(os.Stderr, "ending the machine: %v\n", err)
	for { // process 1 must not end
		_ = unix.Pause()
	}
}

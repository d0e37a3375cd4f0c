package appengine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/runtime/network"
)

const netClass = "/sys/class/net"

func linkExists(name string) bool {
	_, err := os.Lstat(filepath.Join(netClass, name))
	return err == nil
}

// removeLinks removes bridges that a runtime has made. One with something plugged in
// serves others by now and stays, and so does what somebody else has made.
func removeLinks(names []string) error {
	var errs []error
	for _, name := range names {
		dir := filepath.Join(netClass, filepath.Base(name))
		if alias, _ := os.ReadFile(filepath.Join(dir, "ifalias")); strings.TrimSpace(string(alias)) != network.BridgeAlias {
			continue
		}
		ports, err := os.ReadDir(filepath.Join(dir, "brif"))
		switch {
		case errors.Is(err, fs.ErrNotExist), err == nil && len(ports) > 0:
		case err != nil:
			errs = append(errs, fmt.Errorf("looking at bridge %s: %w", name, err))
		default:
			errs = append(errs, removeBridge(name))
		}
	}
	return errors.Join(errs...)
}

// removeBridge takes a bridge down, which the kernel demands, and removes it
// (linux/sockios.h, SIOCBRDELBR).
func removeBridge(name string) error {
	const delBridge = 0x89a1
	link, err := unix.NewIfreq(name)
	if err != nil {
		return fmt.Errorf("removing bridge %q: %w", name, err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("removing bridge %s: %w", name, err)
	}
	defer unix.Close(fd)
	link.SetUint16(0) // no IFF_UP
	if err = unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, link); err == nil {
		err = unix.IoctlIfreq(fd, delBridge, link)
	}
	if err != nil && !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("removing bridge %s: %w", name, err)
	}
	return nil
}

// Package storage finds, grows and mounts the storage of a device, and makes loop
// devices of image files.
//
// There is no e2fsck in the initrd: mounting replays the journal of an unclean ext4,
// and errors that the kernel has recorded in the superblock are reported.
package storage

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// MountOptions are the options of [Mount].
type MountOptions struct {
	Target string // directory, made if missing; PV_STORAGE_MNTPOINT
	Type   string // PV_STORAGE_FSTYPE; empty: as the superblock says
	Data   string // options of the file system, comma-separated
	// Warn gets what had to be mended; nil for nobody.
	Warn func(text string)
}

// Mount mounts a device read-write, without access times. By default ext4 gets
// errors=remount-ro, so that a damaged file system is not written to. A superblock of ext4 and a
// block of its journal that a power cut has torn are mended.
func Mount(dev Device, o MountOptions) error {
	typ := o.Type
	if typ == "" {
		typ = dev.Super.Type
	}
	if typ == "" {
		return fmt.Errorf("mounting %s: no known file system on it and PV_STORAGE_FSTYPE is not set", dev.Path)
	}
	if o.Data == "" && typ == "ext4" {
		o.Data = "errors=remount-ro"
	}
	if err := os.MkdirAll(o.Target, 0o755); err != nil {
		return fmt.Errorf("making the mount point: %w", err)
	}
	err := unix.Mount(dev.Path, o.Target, typ, unix.MS_NOATIME, o.Data)
	if typ == "ext4" {
		err = mountMended(dev, o, err)
	}
	switch {
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("mounting %s on %s: the kernel has no file system %s (is its module among the early modules?): %w", dev.Path, o.Target, typ, err)
	case err != nil:
		return fmt.Errorf("mounting %s on %s as %s: %w", dev.Path, o.Target, typ, err)
	}
	return nil
}

// mends are what can be mended of an ext4 when the kernel does not mount it, by its answer, in the
// order in which it looks at them: one power cut may have torn both.
var mends = []struct {
	answer unix.Errno
	what   string
	mend   func(Medium) (bool, error)
}{
	{unix.EBADMSG, "superblock", mendSuper},
	{unix.EUCLEAN, "journal", MendJournal},
}

// mountMended mounts an ext4 that could not be mounted because a checksum is wrong, if that is of
// something that can be mended. err is the kernel's answer, which is passed on if it is another one.
func mountMended(dev Device, o MountOptions, err error) error {
	for _, m := range mends {
		if !errors.Is(err, m.answer) {
			continue
		}
		mended, mendErr := mendDevice(dev.Path, m.mend)
		if mendErr != nil || !mended {
			return errors.Join(err, mendErr)
		}
		if o.Warn != nil {
			o.Warn("the " + m.what + " of " + dev.Path + " was torn by a power cut and is mended")
		}
		err = unix.Mount(dev.Path, o.Target, "ext4", unix.MS_NOATIME, o.Data)
	}
	return err
}

// mendDevice mends a device and brings that to the medium.
func mendDevice(path string, mend func(Medium) (bool, error)) (mended bool, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if mended, err = mend(f); err != nil || !mended {
		return mended, err
	}
	return true, f.Sync()
}

package storage

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// LoopOptions are the options of [LoopAttach].
type LoopOptions struct {
	// ReadOnly makes the device and its backing file read-only.
	ReadOnly bool
	// FirstIndex is the lowest number a device may get (PV_LOOP_INDEX_BASE); 0 means
	// the first free device.
	FirstIndex int
}

// Loop is an attached loop device. It detaches by itself when neither this handle nor a
// mount uses it (LO_FLAGS_AUTOCLEAR).
type Loop struct {
	Path string // /dev/loopN
	file *os.File
}

// Close closes the handle. A mounted device stays attached until it is unmounted.
func (l *Loop) Close() error { return l.file.Close() }

// loopAttempts bounds the attempts to get a free device, for which processes compete.
const loopAttempts = 64

// LoopAttach attaches a file to a loop device. Mount it, then Close it.
func LoopAttach(image string, o LoopOptions) (*Loop, error) {
	mode := os.O_RDWR
	if o.ReadOnly {
		mode = os.O_RDONLY
	}
	backing, err := os.OpenFile(image, mode, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the image: %w", err)
	}
	defer backing.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the loop driver (is module loop loaded?): %w", err)
	}
	defer control.Close()
	for index := o.FirstIndex; ; index++ {
		n, err := freeLoop(int(control.Fd()), index, o.FirstIndex > 0)
		if err != nil {
			return nil, err
		}
		l, err := configureLoop(n, backing, image, o.ReadOnly)
		switch {
		case err == nil:
			return l, nil
		case !errors.Is(err, unix.EBUSY) || index-o.FirstIndex >= loopAttempts:
			return nil, err
		}
	}
}

// freeLoop returns the number of a free device: index if certain, else the first.
func freeLoop(control, index int, certain bool) (int, error) {
	if !certain {
		n, err := unix.IoctlRetInt(control, unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return 0, fmt.Errorf("getting a free loop device: %w", err)
		}
		return n, nil
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(control), unix.LOOP_CTL_ADD, uintptr(index))
	if errno != 0 && errno != unix.EEXIST {
		return 0, fmt.Errorf("adding loop device %d: %w", index, errno)
	}
	return index, nil
}

func configureLoop(n int, backing *os.File, image string, readOnly bool) (*Loop, error) {
	dev := "/dev/loop" + strconv.Itoa(n)
	mode := os.O_RDWR
	cfg := unix.LoopConfig{Fd: uint32(backing.Fd())}
	cfg.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
	if readOnly {
		mode = os.O_RDONLY
		cfg.Info.Flags |= unix.LO_FLAGS_READ_ONLY
	}
	// The name is only for people (losetup); a long one loses its beginning.
	name := image[max(0, len(image)-len(cfg.Info.File_name)+1):]
	copy(cfg.Info.File_name[:], name)
	f, err := os.OpenFile(dev, mode, 0)
	if err != nil {
		return nil, fmt.Errorf("opening loop device: %w", err)
	}
	if err := unix.IoctlLoopConfigure(int(f.Fd()), &cfg); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("attaching %s to %s: %w", image, dev, err)
	}
	return &Loop{Path: dev, file: f}, nil
}

// MountSquashfs mounts a squashfs image read-only on an existing directory, through
// a loop device that is detached with the mount.
func MountSquashfs(image, target string, o LoopOptions) error {
	o.ReadOnly = true
	l, err := LoopAttach(image, o)
	if err != nil {
		return fmt.Errorf("mounting %s: %w", image, err)
	}
	defer l.Close()
	if err := unix.Mount(l.Path, target, "squashfs", unix.MS_RDONLY|unix.MS_NODEV, ""); err != nil {
		return fmt.Errorf("mounting %s on %s as squashfs: %w", image, target, err)
	}
	return nil
}

// DetachLoops detaches every loop device that still has a backing file, at shutdown;
// a device in use is detached when its last user ends. The error joins all failures.
func DetachLoops() error {
	entries, err := os.ReadDir("/sys/block")
	if err != nil {
		return fmt.Errorf("listing block devices: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "loop") {
			continue
		}
		if _, err := os.Stat("/sys/block/" + e.Name() + "/loop/backing_file"); err != nil {
			continue
		}
		errs = append(errs, detachLoop("/dev/"+e.Name()))
	}
	return errors.Join(errs...)
}

func detachLoop(dev string) error {
	f, err := os.Open(dev)
	if err != nil {
		return fmt.Errorf("opening loop device: %w", err)
	}
	defer f.Close()
	if err := unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0); err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("detaching %s: %w", dev, err)
	}
	return nil
}

package flash

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// device is a medium that is a block device, claimed for the time of writing.
type device struct {
	file           // through the cache of the kernel
	past  *os.File // past it, nil where the device has no such way
	other bool     // something went through the cache
}

// openDevice opens a disk to be overwritten. It must be the wanted one, if that is not nil.
func openDevice(path string, want *Disk) (medium, error) {
	f, err := Claim(path)
	if err != nil {
		return nil, err
	}
	if err := want.is(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	d := &device{file: file{f}}
	// The same device, whatever the path leads to by now.
	if past, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_RDWR|unix.O_DIRECT, 0); err == nil {
		d.past = past
	}
	return d, nil
}

// is checks that an open disk is the one that was looked at. Names of disks are given to others
// when one is taken out.
func (d *Disk) is(f *os.File) error {
	if d == nil {
		return nil
	}
	sys, err := wholeDisk(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		return err
	}
	now, err := inspect(filepath.Base(sys))
	if err != nil {
		return err
	}
	if now.number != d.number || now.sequence != d.sequence || now.Size != d.Size || now.Model != d.Model {
		return fault.New(fault.BadInput, "it is now another disk than the one that was shown (%s, %d MiB): begin again", d.Path, d.Size>>20)
	}
	return nil
}

// Claim opens a whole disk that nothing uses, to change it. O_EXCL makes the kernel reject a disk
// that it has mounted or given to another driver, or of which it has a partition in use, also when
// that happens between the look and the opening; the look gives the better message. The error has
// the kind [fault.BadInput] for what cannot be changed.
func Claim(path string) (*os.File, error) {
	if err := usable(path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_EXCL, 0)
	switch {
	case errors.Is(err, unix.EBUSY):
		return nil, fault.New(fault.BadInput, "something uses the disk or a partition of it")
	case errors.Is(err, unix.EROFS):
		return nil, fault.New(fault.BadInput, "the disk is read-only: is there a switch on it?")
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return nil, fault.New(fault.BadInput, "you may not write to it: it needs the right to, as root has it (sudo) or the group of the disk")
	}
	return f, err
}

// WriteAt writes past the cache what is aligned, which all but the end of an image is.
func (d *device) WriteAt(p []byte, at int64) (int, error) {
	if d.past != nil && isAligned(p, at) {
		return d.past.WriteAt(p, at)
	}
	d.other = true
	return d.File.WriteAt(p, at)
}

// ReadAt reads past the cache what is aligned.
func (d *device) ReadAt(p []byte, at int64) (int, error) {
	if d.past != nil && isAligned(p, at) {
		return d.past.ReadAt(p, at)
	}
	return d.File.ReadAt(p, at)
}

func (d *device) direct() bool { return d.past != nil }

// Close may be called again.
func (d *device) Close() error {
	var err error
	if d.past != nil {
		err = d.past.Close()
		d.past = nil
	}
	return errors.Join(err, d.file.Close())
}

// usable reports as an error why the device at a path cannot be overwritten.
func usable(path string) error {
	sys, err := wholeDisk(path)
	if err != nil {
		return err
	}
	d, err := inspect(filepath.Base(sys))
	if err != nil {
		return err
	}
	return d.Usable()
}

// wholeDisk returns the directory of a disk in sysfs. A partition is an error.
func wholeDisk(path string) (string, error) {
	sys, err := filepath.EvalSymlinks("/sys/dev/block/" + number(path))
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(sys, "partition")); err == nil {
		return "", fault.New(fault.BadInput, "it is a partition: name the whole disk, /dev/%s", filepath.Base(filepath.Dir(sys)))
	}
	return sys, nil
}

// fits looks at the room of the disk and at its sectors.
func (d *device) fits(size int64) error {
	have, err := d.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if have < size {
		return fault.New(fault.NoSpace, "the disk has %d MiB, the image needs %d MiB", have>>20, (size+1<<20-1)>>20)
	}
	if sector, err := unix.IoctlGetInt(int(d.Fd()), unix.BLKSSZGET); err != nil || sector != sectorSize {
		return fault.New(fault.Unsupported, "the disk has sectors of %d bytes, the partition tables of images are for %d", sector, sectorSize)
	}
	return nil
}

// begin erases the tables that are on the disk.
func (d *device) begin(_ int64, first []byte) error {
	have, err := d.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	head := aligned(int(min(headSize, have)))
	copy(head, first)
	if _, err := d.WriteAt(head, 0); err != nil {
		return err
	}
	if _, err := d.WriteAt(aligned(int(min(tailSize, have-int64(len(head))))), have-min(tailSize, have-int64(len(head)))); err != nil {
		return err
	}
	return d.sync()
}

// uncache drops the pages of the disk, so that reading gives what the medium has.
func (d *device) uncache() error {
	if !d.other && d.past != nil { // nothing is there
		return nil
	}
	if err := unix.IoctlSetInt(int(d.Fd()), unix.BLKFLSBUF, 0); err != nil {
		return fmt.Errorf("dropping the disk's pages from the cache: %w", err)
	}
	return nil
}

// How often and for how long reread waits for others to close partitions: programs that
// look for file systems open them for a moment.
const (
	rereadTries = 20
	rereadPause = 100 * time.Millisecond
)

func (d *device) reread() (err error) {
	for range rereadTries {
		err = unix.IoctlSetInt(int(d.Fd()), unix.BLKRRPART, 0)
		if !errors.Is(err, unix.EBUSY) {
			break
		}
		time.Sleep(rereadPause)
	}
	if errors.Is(err, unix.EINVAL) { // a device without partitions, as most loop devices
		return nil
	}
	return err
}

func dropCache(f *os.File) error { return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) }

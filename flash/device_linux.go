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
type device struct{ file }

// openDevice opens a disk that nothing uses. O_EXCL makes the kernel reject a disk that it
// has mounted or given to another driver, or of which it has a partition in use, also when
// that happens between the look and the opening; the look gives the better message.
func openDevice(path string) (medium, error) {
	if err := usable(path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_EXCL, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, fault.New(fault.BadInput, "something uses the disk or a partition of it")
	}
	if errors.Is(err, unix.EROFS) {
		return nil, fault.New(fault.BadInput, "the disk is read-only: is there a switch on it?")
	}
	if err != nil {
		return nil, err
	}
	return &device{file{f}}, nil
}

// usable reports as an error why the device at a path cannot be overwritten.
func usable(path string) error {
	sys, err := filepath.EvalSymlinks("/sys/dev/block/" + number(path))
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(sys, "partition")); err == nil {
		return fault.New(fault.BadInput, "it is a partition: name the whole disk, /dev/%s", filepath.Base(filepath.Dir(sys)))
	}
	d, err := inspect(filepath.Base(sys))
	if err != nil {
		return err
	}
	return d.Usable()
}

// begin erases the tables that are on the disk.
func (d *device) begin(size int64) error {
	have, err := d.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if have < size {
		return fault.New(fault.NoSpace, "the disk has %d MiB, the image needs %d MiB", have>>20, (size+1<<20-1)>>20)
	}
	if sector, err := unix.IoctlGetInt(int(d.Fd()), unix.BLKSSZGET); err != nil || sector != 512 {
		return fault.New(fault.Unsupported, "the disk has sectors of %d bytes, the partition tables of images are for 512", sector)
	}
	for at, n := range map[int64]int64{0: min(headSize, have), max(0, have-tailSize): min(tailSize, have)} {
		if _, err := d.WriteAt(make([]byte, n), at); err != nil {
			return err
		}
	}
	return d.sync()
}

// uncache drops the pages of the disk, so that reading gives what the medium has.
func (d *device) uncache() error {
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

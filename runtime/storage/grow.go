package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// growSlack is how many bytes a file system may be smaller than its device: the kernel
// omits a last block group that is too small for its own tables.
const growSlack = 8 << 20

// GrowPartition grows a partition to the end of its disk, if it is the last one: in the
// table (GPT or MBR) and in the running kernel, also while it is mounted. It reports
// whether anything changed. It does nothing for a device that is not a partition.
func GrowPartition(dev Device) (grown bool, err error) {
	if dev.Partition == 0 {
		return false, nil
	}
	f, err := os.OpenFile(dev.diskPath(), os.O_RDWR, 0)
	if err != nil {
		return false, fmt.Errorf("opening the disk: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, sector, err := geometry(f)
	if err != nil {
		return false, err
	}
	last, grown, err := growTable(f, dev.Partition, size, sector)
	if err != nil || !grown {
		return false, err
	}
	return true, tellKernel(f, dev, (last+1)*sector)
}

func growTable(d disk, n int, size, sector uint64) (last uint64, grown bool, err error) {
	g, err := readGPT(d, size, sector)
	if errors.Is(err, ErrNoTable) {
		last, grown, err = growMBR(d, n, size/sector)
		return last, grown, err
	}
	if err != nil {
		return 0, false, err
	}
	return g.grow(n)
}

// geometry returns the sizes of a block device and of its logical block, in bytes.
func geometry(f *os.File) (size, sector uint64, err error) {
	if err := ioctl(f, unix.BLKGETSIZE64, unsafe.Pointer(&size)); err != nil {
		return 0, 0, fmt.Errorf("asking %s for its size: %w", f.Name(), err)
	}
	n, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKSSZGET)
	if err != nil || n < 512 {
		return 0, 0, fmt.Errorf("asking %s for its block size (%d): %w", f.Name(), n, err)
	}
	return size, uint64(n), nil
}

// tellKernel resizes the partition, which may be in use, in the running kernel.
func tellKernel(f *os.File, dev Device, end uint64) error {
	start, err := sysNumber(dev.Sys, "start")
	if err != nil {
		return err
	}
	start *= 512 // sysfs always uses units of 512 bytes
	p := unix.BlkpgPartition{Start: int64(start), Length: int64(end - start), Pno: int32(dev.Partition)}
	arg := unix.BlkpgIoctlArg{Op: unix.BLKPG_RESIZE_PARTITION, Datalen: int32(unsafe.Sizeof(p)), Data: (*byte)(unsafe.Pointer(&p))}
	if err := ioctl(f, unix.BLKPG, unsafe.Pointer(&arg)); err != nil {
		return fmt.Errorf("telling the kernel the new size of %s: %w", dev.Path, err)
	}
	return nil
}

// GrowFilesystem grows a mounted ext4 to the size of its device and reports whether it
// grew. It does nothing for other file systems: UBIFS grows by itself when it is mounted.
func GrowFilesystem(dev Device, mountpoint string) (bool, error) {
	if dev.Super.Type == ubifs {
		return false, nil
	}
	f, err := os.Open(dev.Path)
	if err != nil {
		return false, fmt.Errorf("opening the device: %w", err)
	}
	defer f.Close()
	super, ok, err := probe(f)
	if err != nil || !ok || super.Type != "ext4" {
		return false, err
	}
	size, _, err := geometry(f)
	if err != nil || size < super.Size()+growSlack {
		return false, err
	}
	dir, err := os.Open(mountpoint)
	if err != nil {
		return false, fmt.Errorf("opening the mount point: %w", err)
	}
	defer dir.Close()
	blocks := size / super.Block
	if err := ioctl(dir, ext4ResizeFS, unsafe.Pointer(&blocks)); err != nil {
		return false, fmt.Errorf("growing the file system of %s to %d blocks: %w", dev.Path, blocks, err)
	}
	return true, nil
}

func ioctl(f *os.File, request uint, arg unsafe.Pointer) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uintptr(request), uintptr(arg))
	if errno != 0 {
		return errno
	}
	return nil
}

func sysNumber(dir, name string) (uint64, error) {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return 0, fmt.Errorf("reading a device attribute: %w", err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("reading a device attribute: %w", err)
	}
	return n, nil
}

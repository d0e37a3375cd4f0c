//go:build linux

// Package ext4fs asks a mounted ext4 about its journal.
package ext4fs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// dryRun is a flag of iocCheckpoint: do all but the work (EXT4_IOC_CHECKPOINT_FLAG_DRY_RUN;
// kernel: include/uapi/linux/ext4.h).
const dryRun = 4

// Is reports whether an open file is on ext4.
func Is(f *os.File) (bool, error) {
	var st unix.Statfs_t
	err := unix.Fstatfs(int(f.Fd()), &st)
	return err == nil && int64(st.Type) == unix.EXT4_SUPER_MAGIC, err //nolint:unconvert // 32 bits wide on some architectures
}

// Journaled reports whether an open file is on ext4 with a journal. It is false when that cannot be
// known: kernels before 5.14 do not say it, and others only to the administrator.
func Journaled(f *os.File) bool {
	is, err := Is(f)
	return err == nil && is && unix.IoctlSetPointerInt(int(f.Fd()), iocCheckpoint, dryRun) == nil
}

// InPlace reports whether what is written over content of an open file goes to its place and not
// to the journal first: the file is on ext4 without the mount option data=journal.
func InPlace(f *os.File) bool {
	var st unix.Stat_t
	if is, err := Is(f); err != nil || !is || unix.Fstat(int(f.Fd()), &st) != nil {
		return false
	}
	device, err := os.Readlink(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev)))) //nolint:unconvert // 32 bits wide on some architectures
	if err != nil {
		return false
	}
	options, err := os.ReadFile(filepath.Join("/proc/fs/ext4", filepath.Base(device), "options"))
	return err == nil && !bytes.Contains(options, []byte("data=journal"))
}

// Checkpoint writes the content of the journal to its final location. The error is ENODEV without
// a journal, and ENOTTY before Linux 5.14.
func Checkpoint(f *os.File) error {
	return unix.IoctlSetPointerInt(int(f.Fd()), iocCheckpoint, 0)
}

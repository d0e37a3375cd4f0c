package filelock

import (
	"errors"
	"math"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"
)

// blocking is false because closing a file waits here for a call that waits for its lock.
const blocking = false

// dirLock is the file that stands for the lock of the directory it is in: Windows locks
// files only. It goes with its last lock.
const dirLock = ".lock"

// openFile opens a file so that it can be renamed and removed while it is locked, as
// elsewhere.
func openFile(path string, opt Options) (*os.File, error) {
	access, how := uint32(windows.GENERIC_READ), uint32(windows.OPEN_EXISTING)
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path, opt.Create = filepath.Join(path, dirLock), 0o600
	}
	if opt.Create != 0 {
		access, how = windows.GENERIC_READ|windows.GENERIC_WRITE, windows.OPEN_ALWAYS
	}
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	const share = windows.FILE_SHARE_READ | windows.FILE_SHARE_WRITE | windows.FILE_SHARE_DELETE
	h, err := windows.CreateFile(name, access, share, nil, how, windows.FILE_ATTRIBUTE_NORMAL|windows.FILE_FLAG_OPEN_REPARSE_POINT, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(h), path)
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(&os.PathError{Op: "open", Path: path, Err: windows.ERROR_CANT_ACCESS_FILE}, err, f.Close())
	}
	return f, nil
}

// wholeFile is the offset of the byte that stands for the lock of a whole file. Windows
// keeps other processes from reading and writing what is locked, so it lies behind every
// content.
const wholeFile = math.MaxInt64 - 1

func lockFile(fd uintptr, m mode, wait bool) error { return lockByte(wholeFile)(fd, m, wait) }

func ofByte(path string, at int64) (string, lockFunc) { return path, lockByte(at) }

// lockByte locks one byte, which need not exist.
func lockByte(at int64) lockFunc {
	return func(fd uintptr, m mode, _ bool) error {
		where := windows.Overlapped{Offset: uint32(at), OffsetHigh: uint32(at >> 32)}
		var err error
		switch m {
		case unlocked:
			err = windows.UnlockFileEx(windows.Handle(fd), 0, 1, 0, &where)
		case shared:
			err = windows.LockFileEx(windows.Handle(fd), windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &where)
		case exclusive:
			err = windows.LockFileEx(windows.Handle(fd), windows.LOCKFILE_FAIL_IMMEDIATELY|windows.LOCKFILE_EXCLUSIVE_LOCK, 0, 1, 0, &where)
		}
		if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
			return ErrHeld
		}
		return err
	}
}

// leave removes the file that stands for a directory, unless others hold it or wait for it.
func (l *Lock) leave() {
	if filepath.Base(l.file.Name()) != dirLock {
		return
	}
	_ = l.set(unlocked, false)
	if l.set(exclusive, false) == nil && l.Named() {
		_ = os.Remove(l.file.Name())
	}
}

package atomicfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// Rename gives a file or directory another name in the same file system. A file of that
// name is replaced, also when it is read-only or other programs have it open and allow that.
func Rename(from, to string) error {
	return RetryBusy(func() error {
		err := replace(from, to)
		if err != nil {
			err = os.Rename(from, to) // file systems without POSIX semantics, such as FAT
		}
		return err
	})
}

// RetryBusy calls do again while another program keeps it from a file, for half a second:
// virus scanners and indexers open new files.
func RetryBusy(do func() error) error {
	const attempts, pause = 10, 10 * time.Millisecond
	for try := 1; ; try++ {
		err := do()
		busy := errors.Is(err, windows.ERROR_SHARING_VIOLATION) || errors.Is(err, windows.ERROR_ACCESS_DENIED)
		if !busy {
			return err
		}
		if try == attempts {
			return fmt.Errorf("%w; close programs that have the file open, and check its permissions", err)
		}
		time.Sleep(time.Duration(try) * pause)
	}
}

// replace renames as POSIX does (FILE_RENAME_INFO, winbase.h).
func replace(from, to string) error {
	name, err := windows.UTF16PtrFromString(from)
	if err != nil {
		return err
	}
	const share = windows.FILE_SHARE_READ | windows.FILE_SHARE_WRITE | windows.FILE_SHARE_DELETE
	h, err := windows.CreateFile(name, windows.DELETE|windows.SYNCHRONIZE, share, nil, windows.OPEN_EXISTING,
		windows.FILE_FLAG_BACKUP_SEMANTICS|windows.FILE_FLAG_OPEN_REPARSE_POINT, 0)
	if err != nil {
		return err
	}
	defer windows.CloseHandle(h) //nolint:errcheck // nothing was written
	info, err := renameInfo(to)
	if err != nil {
		return err
	}
	return windows.SetFileInformationByHandle(h, windows.FileRenameInfoEx, &info[0], uint32(len(info)))
}

// renameInfo returns a FILE_RENAME_INFO: flags, the handle of a directory, which is none,
// the length of the name in bytes, and the name in UTF-16 with a NUL.
func renameInfo(to string) ([]byte, error) {
	abs, err := filepath.Abs(to)
	if err != nil {
		return nil, err
	}
	name, err := windows.UTF16FromString(abs)
	if err != nil {
		return nil, err
	}
	const flags = windows.FILE_RENAME_REPLACE_IF_EXISTS | windows.FILE_RENAME_POSIX_SEMANTICS | windows.FILE_RENAME_IGNORE_READONLY_ATTRIBUTE
	const word = int(unsafe.Sizeof(uintptr(0)))
	out := binary.NativeEndian.AppendUint32(nil, flags)
	out = append(out, make([]byte, 2*word-len(out))...) // padding and no directory
	out = binary.NativeEndian.AppendUint32(out, uint32(len(name)-1)*2)
	for _, c := range name {
		out = binary.NativeEndian.AppendUint16(out, c)
	}
	return out, nil
}

// openForSync opens a file whose content is to be made durable, for writing, which Windows
// asks for.
func openForSync(path string) (*os.File, error) { return os.OpenFile(path, os.O_RDWR, 0) }

// flush makes the content of a file durable.
func flush(f *os.File) error { return f.Sync() }

// SyncDir does nothing: Windows has no call that makes names durable. Its file system keeps
// a journal of them.
func SyncDir(dir string) error {
	if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf("syncing directory %s: %w", dir, err)
	}
	return nil
}

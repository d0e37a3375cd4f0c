package filestat

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"unsafe"

	"golang.org/x/sys/windows"
)

// noWait is not needed: there are no FIFOs in directories.
const noWait = 0

// Open opens a file for reading; a symbolic link is an error.
func Open(path string) (*os.File, error) {
	named, err := OfLink(path)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if opened, err := OfFile(f); err != nil || opened.ID != named.ID {
		return nil, errors.Join(failed("open", path, windows.ERROR_CANT_ACCESS_FILE), err, f.Close())
	}
	return f, nil
}

// Of returns the description of a file; it follows symbolic links.
func Of(path string) (Stat, error) { return of(path, 0, "stat") }

// OfLink is [Of] that does not follow a symbolic link.
func OfLink(path string) (Stat, error) {
	return of(path, windows.FILE_FLAG_OPEN_REPARSE_POINT, "lstat")
}

// of opens a file for its attributes only, which succeeds whatever other programs do with it.
func of(path string, flags uint32, op string) (Stat, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return Stat{}, failed(op, path, err)
	}
	const share = windows.FILE_SHARE_READ | windows.FILE_SHARE_WRITE | windows.FILE_SHARE_DELETE
	h, err := windows.CreateFile(name, windows.FILE_READ_ATTRIBUTES, share, nil, windows.OPEN_EXISTING,
		windows.FILE_FLAG_BACKUP_SEMANTICS|flags, 0) // the flag opens directories, too
	if err != nil {
		return Stat{}, failed(op, path, err)
	}
	defer windows.CloseHandle(h) //nolint:errcheck // nothing was written
	s, err := ofHandle(h)
	if err != nil {
		return Stat{}, failed(op, path, err)
	}
	return s, nil
}

// OfFile returns the description of an open file.
func OfFile(f *os.File) (Stat, error) {
	s, err := ofHandle(windows.Handle(f.Fd()))
	if err != nil {
		return Stat{}, failed("stat", f.Name(), err)
	}
	return s, nil
}

// OfName returns the description of a name in an open directory; it follows symbolic links.
func OfName(dir *os.File, name string) (Stat, error) { return Of(at(dir, name)) }

// OfInfo returns the description of the file at path, of which info is a result of
// [os.Lstat].
func OfInfo(path string, _ fs.FileInfo) (Stat, error) { return OfLink(path) }

// basicInfo is FILE_BASIC_INFO (winbase.h).
type basicInfo struct {
	creation, access, write, change int64
	attributes, _                   uint32
}

func ofHandle(h windows.Handle) (Stat, error) {
	var info windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(h, &info); err != nil {
		return Stat{}, err
	}
	s := Stat{
		ID:       ID{uint64(info.VolumeSerialNumber), uint64(info.FileIndexHigh)<<32 | uint64(info.FileIndexLow)},
		Mode:     mode(h, info.FileAttributes),
		Size:     int64(info.FileSizeHigh)<<32 | int64(info.FileSizeLow),
		Links:    uint64(info.NumberOfLinks),
		Modified: info.LastWriteTime.Nanoseconds(),
		Changed:  math.MaxInt64,
	}
	var basic basicInfo
	size := uint32(unsafe.Sizeof(basic))
	if err := windows.GetFileInformationByHandleEx(h, windows.FileBasicInfo, (*byte)(unsafe.Pointer(&basic)), size); err == nil && basic.change != 0 {
		t := windows.Filetime{LowDateTime: uint32(basic.change), HighDateTime: uint32(basic.change >> 32)}
		s.Changed = t.Nanoseconds()
	}
	return s, nil
}

// tagInfo is FILE_ATTRIBUTE_TAG_INFO (winbase.h).
type tagInfo struct{ attributes, tag uint32 }

func mode(h windows.Handle, attributes uint32) uint32 {
	switch {
	case attributes&windows.FILE_ATTRIBUTE_REPARSE_POINT != 0 && isLink(h):
		return symlink | 0o777
	case attributes&windows.FILE_ATTRIBUTE_DIRECTORY != 0:
		return directory | 0o755
	case attributes&windows.FILE_ATTRIBUTE_READONLY != 0:
		return regular | 0o444
	}
	return regular | 0o644
}

// isLink reports whether a reparse point is a symbolic link or a junction. Others, such as
// a file that lies with a cloud service, read as what they stand for.
func isLink(h windows.Handle) bool {
	var info tagInfo
	size := uint32(unsafe.Sizeof(info))
	err := windows.GetFileInformationByHandleEx(h, windows.FileAttributeTagInfo, (*byte)(unsafe.Pointer(&info)), size)
	return err == nil && (info.tag == windows.IO_REPARSE_TAG_SYMLINK || info.tag == windows.IO_REPARSE_TAG_MOUNT_POINT)
}

package scratch

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// Unnamed creates a file in dir, by default the system's directory for temporary files, that
// is gone when it is closed or the process ends. Windows removes no open file, so the file
// has a name until then.
func Unnamed(dir, prefix string) (*os.File, error) {
	f, err := os.CreateTemp(dir, prefix)
	if err != nil {
		return nil, err
	}
	path := f.Name()
	if err := f.Close(); err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	h, err := windows.CreateFile(name, windows.GENERIC_READ|windows.GENERIC_WRITE|windows.DELETE, windows.FILE_SHARE_DELETE, nil,
		windows.OPEN_EXISTING, windows.FILE_ATTRIBUTE_TEMPORARY|windows.FILE_FLAG_DELETE_ON_CLOSE, 0)
	if err != nil {
		return nil, errors.Join(&os.PathError{Op: "open", Path: path, Err: err}, os.Remove(path))
	}
	return os.NewFile(uintptr(h), path), nil
}

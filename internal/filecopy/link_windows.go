package filecopy

import (
	"errors"

	"golang.org/x/sys/windows"
)

// CannotLink reports whether an error of [os.Link] means that a copy is needed: the names
// are on two file systems, the file has too many names, or there are no hard links.
func CannotLink(err error) bool {
	return errors.Is(err, windows.ERROR_NOT_SAME_DEVICE) || errors.Is(err, windows.ERROR_TOO_MANY_LINKS) ||
		errors.Is(err, windows.ERROR_INVALID_FUNCTION) || errors.Is(err, windows.ERROR_NOT_SUPPORTED)
}

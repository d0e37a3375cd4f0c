//go:build unix

package filecopy

import (
	"errors"

	"golang.org/x/sys/unix"
)

// CannotLink reports whether an error of [os.Link] means that a copy is needed: the names
// are on two file systems, the file has too many names, or there are no hard links.
func CannotLink(err error) bool {
	return errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EMLINK) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP)
}

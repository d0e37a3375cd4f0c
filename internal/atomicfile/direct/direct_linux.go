package direct

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// isCold reports whether a file must be read from the disk.
func isCold(f *os.File, offset int64) bool {
	var b [1]byte
	_, err := unix.Preadv2(int(f.Fd()), [][]byte{b[:]}, offset, unix.RWF_NOWAIT)
	return errors.Is(err, unix.EAGAIN)
}

// setFlag changes O_DIRECT of an open file.
func setFlag(f *os.File, on bool) error {
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err == nil {
		flags &^= unix.O_DIRECT
		if on {
			flags |= unix.O_DIRECT
		}
		_, err = unix.FcntlInt(f.Fd(), unix.F_SETFL, flags)
	}
	if err != nil {
		return fmt.Errorf("changing how %s is accessed: %w", f.Name(), err)
	}
	return nil
}

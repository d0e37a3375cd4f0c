package tree

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxXattr is the kernel's limit for the list of names and for each value
// (XATTR_LIST_MAX, XATTR_SIZE_MAX).
const maxXattr = 64 << 10

// attributes reads the extended attributes of a name in an open directory. There is
// no system call for that; the directory's entry in /proc leads there without
// following any link on the way.
func (w *walker) attributes(dir openDir, base string, e *Entry) error {
	if !w.opts.Xattrs {
		return nil
	}
	if w.buf == nil {
		w.buf = make([]byte, maxXattr)
	}
	p := "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/" + base
	n, err := unix.Llistxattr(p, w.buf)
	if errors.Is(err, unix.ENOTSUP) || n == 0 && err == nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listing extended attributes of %.200q: %w", e.Name, err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(w.buf[:n]), "\x00"), "\x00") {
		if strings.HasPrefix(name, "system.") {
			if w.opts.System != nil {
				w.opts.System(e.Name, name)
			}
			continue
		}
		size, err := unix.Lgetxattr(p, name, w.buf)
		if err != nil {
			return fmt.Errorf("reading extended attribute %s of %.200q: %w", name, e.Name, err)
		}
		if e.Xattrs == nil {
			e.Xattrs = map[string][]byte{}
		}
		e.Xattrs[name] = bytes.Clone(w.buf[:size])
	}
	return nil
}

// Package tarball writes trees as tar archives in the PAX format, and reads the
// members of archives as entries of a tree.
//
// Extended attributes are PAX records SCHILY.xattr.NAME, as GNU tar, bsdtar and
// container registries have them.
//
// Format: POSIX.1-2001, pax, "pax Interchange Format".
package tarball

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"math"
	"strings"

	"github.com/pantavisor/pantavisor/formats/tree"
)

const xattrPrefix = "SCHILY.xattr."

// limits are those of the format; device numbers are the kernel's.
var limits = tree.Limits{
	Format: "tar", Major: 0xfff, Minor: 0xfffff,
	Symlinks: true, HardLinks: true, Devices: true, FIFOs: true, Xattrs: true,
}

// Writer writes one archive. Close it when all entries are added.
type Writer struct{ tar *tar.Writer }

// NewWriter begins an archive.
func NewWriter(w io.Writer) *Writer { return &Writer{tar.NewWriter(w)} }

// Add writes one member. The caller adds the directories above it.
func (w *Writer) Add(e tree.Entry) error {
	if err := limits.Check(&e); err != nil {
		return fmt.Errorf("archiving: %w", err)
	}
	h := header(&e)
	if err := w.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("archiving %.200q: %w", e.Name, err)
	}
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	if err := e.WriteContent(w.tar); err != nil {
		return fmt.Errorf("archiving %.200q: %w", e.Name, err)
	}
	return nil
}

// Close writes the end of the archive, not the file below it.
func (w *Writer) Close() error { return w.tar.Close() }

func header(e *tree.Entry) *tar.Header {
	h := &tar.Header{Format: tar.FormatPAX, Name: e.Name, ModTime: e.ModTime}
	if e.HardLink != "" {
		h.Typeflag, h.Linkname = tar.TypeLink, e.HardLink
		return h
	}
	h.Mode, h.Uid, h.Gid = int64(tree.StatMode(e.Mode)&0o7777), int(e.UID), int(e.GID)
	for name, value := range e.Xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[xattrPrefix+name] = string(value)
	}
	switch t := e.Mode.Type(); t {
	case fs.ModeDir:
		h.Typeflag, h.Name = tar.TypeDir, e.Name+"/"
	case fs.ModeSymlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.Link
	case fs.ModeNamedPipe:
		h.Typeflag = tar.TypeFifo
	case fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
		h.Typeflag, h.Devmajor, h.Devminor = tar.TypeBlock, int64(e.Major), int64(e.Minor)
		if t&fs.ModeCharDevice != 0 {
			h.Typeflag = tar.TypeChar
		}
	default:
		h.Typeflag, h.Size = tar.TypeReg, e.Size
	}
	return h
}

// types maps member types to the type bits of a mode.
var types = map[byte]fs.FileMode{
	tar.TypeReg: 0, tar.TypeDir: fs.ModeDir, tar.TypeSymlink: fs.ModeSymlink, tar.TypeFifo: fs.ModeNamedPipe,
	tar.TypeBlock: fs.ModeDevice, tar.TypeChar: fs.ModeDevice | fs.ModeCharDevice,
}

// Entry returns the member that a header describes, without its content. Its Name is the
// header's, unchecked: check it before use. The result is false for a header that
// describes no member, such as a global one.
func Entry(h *tar.Header) (tree.Entry, bool, error) {
	e := tree.Entry{Name: h.Name, ModTime: h.ModTime, Mode: mode(h)}
	switch h.Typeflag {
	case tar.TypeXGlobalHeader:
		return e, false, nil
	case tar.TypeLink:
		e.HardLink = h.Linkname
		return e, true, nil
	case tar.TypeReg:
		e.Size = h.Size
	case tar.TypeSymlink:
		e.Link = h.Linkname
	case tar.TypeDir, tar.TypeFifo:
	case tar.TypeChar, tar.TypeBlock:
		if h.Devmajor < 0 || h.Devmajor > int64(limits.Major) || h.Devminor < 0 || h.Devminor > int64(limits.Minor) {
			return e, false, fmt.Errorf("device %d:%d is out of range", h.Devmajor, h.Devminor)
		}
		e.Major, e.Minor = uint32(h.Devmajor), uint32(h.Devminor)
	default:
		return e, false, fmt.Errorf("member type %q is not known", h.Typeflag)
	}
	if uid, gid := int64(h.Uid), int64(h.Gid); uid < 0 || uid > math.MaxUint32 || gid < 0 || gid > math.MaxUint32 {
		return e, false, fmt.Errorf("owner %d:%d is out of range", h.Uid, h.Gid)
	}
	e.UID, e.GID, e.Xattrs = uint32(h.Uid), uint32(h.Gid), xattrs(h)
	return e, true, nil
}

// mode takes the type from the member type alone: the bits for it in the mode are not
// POSIX and may say something else.
func mode(h *tar.Header) fs.FileMode {
	permissions := tree.FileMode(uint32(h.Mode)&0o7777) &^ fs.ModeType
	return permissions | types[h.Typeflag]
}

func xattrs(h *tar.Header) map[string][]byte {
	var set map[string][]byte
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, xattrPrefix); ok {
			if set == nil {
				set = map[string][]byte{}
			}
			set[name] = []byte(value)
		}
	}
	return set
}

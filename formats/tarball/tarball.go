// Package tarball writes trees as tar archives in the PAX format, and reads the
// members of archives as entries of a tree.
//
// Extended attributes are PAX records SCHILY.xattr.NAME, as GNU tar, bsdtar and
// container registries have them. Two other forms are read: LIBARCHIVE.xattr.NAME of
// bsdtar and RHT.security.selinux of GNU tar.
//
// Formats: POSIX.1-2001, pax, "pax Interchange Format"; GNU tar manual, "Basic Tar Format"
// and "Dumpdir"; tar(5) of libarchive.
package tarball

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"unicode/utf8"

	"github.com/pantavisor/pantavisor/formats/tree"
)

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
	if !utf8.ValidString(e.Name + e.Link + e.HardLink) {
		h.PAXRecords = map[string]string{"hdrcharset": "BINARY"} // else records are UTF-8
	}
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

package cpio

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/pantavisor/pantavisor/formats/tree"
)

// Options are for archives that are written in fragments.
type Options struct {
	// FirstInode is the number of the first entry, counted up from there; 0 means
	// 1. Fragments of one archive must have ranges that do not overlap.
	FirstInode uint32
}

// Write writes entries as a fragment of an archive: sorted, without a trailer.
// It checks each entry, but not that parents exist: see [Validate].
func Write(w io.Writer, entries []tree.Entry, o Options) error {
	sorted := slices.SortedFunc(slices.Values(entries), tree.Compare)
	ino := max(o.FirstInode, 1)
	if free := 1<<32 - int64(ino); int64(len(sorted)) > free {
		return fmt.Errorf("archiving %d entries from inode %d on: a newc archive has inode numbers for %d: %w", len(sorted), ino, free, errors.ErrUnsupported)
	}
	for i := range sorted {
		if err := check(&sorted[i]); err != nil {
			return fmt.Errorf("archiving: %w", err)
		}
		if err := write(w, &sorted[i], ino); err != nil {
			return fmt.Errorf("archiving %s: %w", sorted[i].Name, err)
		}
		ino++
	}
	return nil
}

// WriteTrailer ends an archive.
func WriteTrailer(w io.Writer) error {
	if err := writeHeader(w, trailer, [13]uint32{fieldLinks: 1}); err != nil {
		return fmt.Errorf("ending the archive: %w", err)
	}
	return nil
}

func write(w io.Writer, e *tree.Entry, ino uint32) error {
	head := [13]uint32{
		ino, tree.StatMode(e.Mode), e.UID, e.GID, fieldLinks: 1, fieldTime: tree.Seconds(e.ModTime),
		fieldMajor: e.Major, fieldMinor: e.Minor,
	}
	switch e.Mode.Type() {
	case fs.ModeDir:
		head[fieldLinks] = 2
	case fs.ModeSymlink:
		head[fieldSize] = uint32(len(e.Link))
	default:
		head[fieldSize] = uint32(e.Size)
	}
	if err := writeHeader(w, e.Name, head); err != nil {
		return err
	}
	if e.Mode.IsRegular() {
		if err := e.WriteContent(w); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, e.Link+zeros(int(head[fieldSize]%4)))
	return err
}

// Fields of a header that have a name here; the name's length is filled in.
const (
	fieldLinks = 4
	fieldTime  = 5
	fieldSize  = 6
	fieldMajor = 9
	fieldMinor = 10
	fieldName  = 11
)

func writeHeader(w io.Writer, name string, fields [13]uint32) error {
	fields[fieldName] = uint32(len(name) + 1)
	b := make([]byte, 0, header+len(name)+4)
	b = append(b, magic...)
	for _, f := range fields {
		b = fmt.Appendf(b, "%08x", f)
	}
	b = append(b, name...)
	b = append(b, 0)
	_, err := w.Write(append(b, zeros(len(b))...))
	return err
}

// zeros returns the padding after n bytes to a multiple of four.
func zeros(n int) string { return "\x00\x00\x00"[:(4-n%4)%4] }

package cpio

import (
	"fmt"
	"io"
)

// Options are what all entries of an archive share.
type Options struct {
	// ModTime is every entry's modification time in seconds since 1970, at most
	// 32 bits.
	ModTime int64
	// FirstInode is the number of the first entry, counted up from there; 0 means
	// 1. Fragments of one archive take ranges that do not meet.
	FirstInode uint32
}

// Write writes entries as a fragment of an archive: sorted, without a trailer.
// It checks each entry, but not that parents exist: see [Validate].
func Write(w io.Writer, entries []Entry, o Options) error {
	sorted := append([]Entry(nil), entries...)
	Sort(sorted)
	ino := max(o.FirstInode, 1)
	for i := range sorted {
		if err := sorted[i].check(); err != nil {
			return err
		}
		if err := sorted[i].write(w, ino, uint32(o.ModTime)); err != nil {
			return fmt.Errorf("archiving %s: %w", sorted[i].Name, err)
		}
		ino++
	}
	return nil
}

// WriteTrailer ends an archive.
func WriteTrailer(w io.Writer) error {
	end := Entry{Name: trailer}
	if err := end.writeHeader(w, 0, 0, 0); err != nil {
		return fmt.Errorf("ending the archive: %w", err)
	}
	return nil
}

func (e *Entry) write(w io.Writer, ino, mtime uint32) error {
	switch e.Mode & TypeMask {
	case TypeLink:
		return e.writeLink(w, ino, mtime)
	case TypeRegular:
		return e.writeFile(w, ino, mtime)
	}
	return e.writeHeader(w, ino, mtime, 0)
}

func (e *Entry) writeLink(w io.Writer, ino, mtime uint32) error {
	if err := e.writeHeader(w, ino, mtime, uint32(len(e.Link))); err != nil {
		return err
	}
	_, err := io.WriteString(w, e.Link+zeros(len(e.Link)))
	return err
}

func (e *Entry) writeFile(w io.Writer, ino, mtime uint32) error {
	if err := e.writeHeader(w, ino, mtime, uint32(e.Size)); err != nil || e.Size == 0 {
		return err
	}
	r, err := e.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	n, err := io.Copy(w, io.LimitReader(r, e.Size+1))
	if err != nil {
		return err
	}
	if n != e.Size {
		return fmt.Errorf("file changed while it was read: %d bytes, not %d", n, e.Size)
	}
	_, err = io.WriteString(w, zeros(int(e.Size%4)))
	return err
}

func (e *Entry) writeHeader(w io.Writer, ino, mtime, size uint32) error {
	links := uint32(1)
	if e.Mode&TypeMask == TypeDir {
		links = 2
	}
	head := magic
	for _, field := range []uint32{
		ino, e.Mode, 0, 0, links, mtime, size,
		0, 0, e.Major, e.Minor, uint32(len(e.Name) + 1), 0,
	} {
		head += fmt.Sprintf("%08x", field)
	}
	_, err := io.WriteString(w, head+e.Name+"\x00"+zeros(header+len(e.Name)+1))
	return err
}

// zeros pads what has n bytes to the format's border of four.
func zeros(n int) string { return "\x00\x00\x00"[:(4-n%4)%4] }

// Package rpmdb reads databases of installed packages of rpm, in each form that it had: SQLite
// (rpmdb.sqlite, since rpm 4.16), ndb (Packages.db, of SUSE) and hash tables of Berkeley DB (Packages,
// before). It reads only what leads to the headers of packages, from a reader: libraries for SQLite and
// Berkeley DB want a file in a file system, and trust it.
//
// Sources of the formats: https://www.sqlite.org/fileformat2.html; rpm's lib/backend/ndb/rpmpkg.c; Berkeley
// DB's dbinc/db_page.h; for headers rpm's docs/manual/format_header.md.
package rpmdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Package is an installed package.
type Package struct {
	Name, Version, Release string
	// Epoch is -1 without one.
	Epoch                             int64
	Arch, Licence, Vendor, SourceName string
	// Files are the paths of its files.
	Files []string
}

// errFormat is wrapped by all errors of damaged databases.
var errFormat = errors.New("the database is damaged, or of a form that is not known")

const (
	// maxHeader bounds the header of one package, in bytes; rpm has the same limit.
	maxHeader = 256 << 20
	maxPages  = 1 << 24
)

// Read calls do for each package of a database of size bytes, in its order. An error of do ends it.
func Read(r io.ReaderAt, size int64, do func(*Package) error) error {
	start := make([]byte, min(size, 100))
	if _, err := r.ReadAt(start, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	total := int64(0)
	header := func(data []byte) error {
		// A damaged database may have a header many times.
		if total += int64(len(data)); total > size {
			return fmt.Errorf("its headers have more than %d bytes: %w", size, errFormat)
		}
		p, err := parse(data)
		if err != nil {
			return err
		}
		return do(p)
	}
	switch {
	case strings.HasPrefix(string(start), sqliteMagic) && len(start) == 100:
		return readSQLite(r, size, start, header)
	case strings.HasPrefix(string(start), ndbMagic) && len(start) >= ndbSlot*2:
		return readNDB(r, size, start, header)
	case len(start) >= 72:
		return readHash(r, size, start, header)
	}
	return errFormat
}

// piece reads bytes that must be there.
func piece(r io.ReaderAt, size, at, length int64) ([]byte, error) {
	if at < 0 || length < 0 || length > maxHeader || at > size-length {
		return nil, fmt.Errorf("%d bytes at %d: %w", length, at, errFormat)
	}
	b := make([]byte, length)
	if _, err := r.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}

// Forms of ndb.
const (
	ndbMagic = "RpmP"
	ndbPage  = 4096
	ndbSlot  = 16 // bytes of a slot, of the header of a blob, and of the unit of offsets
)

// readNDB reads the slots, of which the first two are the header of the file, and what they point to.
func readNDB(r io.ReaderAt, size int64, start []byte, do func([]byte) error) error {
	le := binary.LittleEndian
	pages := int64(le.Uint32(start[12:]))
	slots, err := piece(r, size, 0, pages*ndbPage)
	if err != nil {
		return err
	}
	for at := 2 * ndbSlot; at+ndbSlot <= len(slots); at += ndbSlot {
		slot := slots[at:]
		if string(slot[:4]) != "Slot" {
			return fmt.Errorf("no slot at %d: %w", at, errFormat)
		}
		index, offset := le.Uint32(slot[4:]), int64(le.Uint32(slot[8:]))*ndbSlot
		if index == 0 {
			continue
		}
		head, err := piece(r, size, offset, ndbSlot)
		if err != nil {
			return err
		}
		if string(head[:4]) != "BlbS" || le.Uint32(head[4:]) != index {
			return fmt.Errorf("no package at %d: %w", offset, errFormat)
		}
		data, err := piece(r, size, offset+ndbSlot, int64(le.Uint32(head[12:])))
		if err != nil {
			return err
		}
		if err := do(data); err != nil {
			return err
		}
	}
	return nil
}

// Forms of hash tables of Berkeley DB.
const (
	hashMagic    = 0x061561
	hashUnsorted = 2 // kinds of pages
	hashOverflow = 7
	hashSorted   = 13
	hashHeader   = 26 // bytes of the header of a page
	hashOffPage  = 3  // the kind of an item that is in pages of its own
)

// hashFile is a file with a hash table.
type hashFile struct {
	r        io.ReaderAt
	size     int64
	order    binary.ByteOrder
	pageSize int64
	pages    int64 // of values, read so far
}

// readHash reads all pages of a hash table. Headers of packages are values that are in pages of
// their own; the one value that is not counts the packages.
func readHash(r io.ReaderAt, size int64, start []byte, do func([]byte) error) error {
	h := hashFile{r: r, size: size, order: binary.LittleEndian}
	if h.order.Uint32(start[12:]) != hashMagic {
		h.order = binary.BigEndian
	}
	h.pageSize = int64(h.order.Uint32(start[20:]))
	if h.order.Uint32(start[12:]) != hashMagic || h.pageSize < 512 || h.pageSize > 64<<10 || start[24] != 0 {
		return errFormat // another kind, or encrypted
	}
	if last := int64(h.order.Uint32(start[32:])); last*h.pageSize > size-h.pageSize {
		return fmt.Errorf("its last page, %d, is not there: %w", last, errFormat)
	}
	for at := h.pageSize; at <= size-h.pageSize; at += h.pageSize {
		page, err := piece(r, size, at, h.pageSize)
		if err != nil {
			return err
		}
		if page[25] != hashUnsorted && page[25] != hashSorted {
			continue
		}
		if err := h.values(page, do); err != nil {
			return err
		}
	}
	return nil
}

// values reads the values on a page: every second item, the others are keys.
func (h *hashFile) values(page []byte, do func([]byte) error) error {
	count := int(h.order.Uint16(page[20:]))
	if hashHeader+2*count > len(page) {
		return fmt.Errorf("a page with %d items: %w", count, errFormat)
	}
	for n := 1; n < count; n += 2 {
		at := int(h.order.Uint16(page[hashHeader+2*n:]))
		if at >= len(page) {
			return fmt.Errorf("an item at %d: %w", at, errFormat)
		}
		if page[at] != hashOffPage {
			continue
		}
		if at+12 > len(page) {
			return fmt.Errorf("an item at %d: %w", at, errFormat)
		}
		data, err := h.overflow(int64(h.order.Uint32(page[at+4:])), int64(h.order.Uint32(page[at+8:])))
		if err != nil {
			return err
		}
		if err := do(data); err != nil {
			return err
		}
	}
	return nil
}

// overflow reads a value of so many bytes from pages that lead to each other.
func (h *hashFile) overflow(page, length int64) ([]byte, error) {
	if length > min(maxHeader, h.size) {
		return nil, fmt.Errorf("a value of %d bytes: %w", length, errFormat)
	}
	var out []byte
	for int64(len(out)) < length {
		if h.pages++; h.pages > h.size/h.pageSize {
			return nil, fmt.Errorf("its pages lead to each other: %w", errFormat)
		}
		b, err := piece(h.r, h.size, page*h.pageSize, h.pageSize)
		if err != nil {
			return nil, err
		}
		have := int64(h.order.Uint16(b[22:]))
		if b[25] != hashOverflow || have == 0 || hashHeader+have > h.pageSize {
			return nil, fmt.Errorf("page %d is not that of a value: %w", page, errFormat)
		}
		out = append(out, b[hashHeader:hashHeader+have]...)
		page = int64(h.order.Uint32(b[16:]))
	}
	return out[:length], nil
}

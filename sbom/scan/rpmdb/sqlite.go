package rpmdb

import (
	"encoding/binary"
	"fmt"
	"io"
)

const sqliteMagic = "SQLite format 3\x00"

// Kinds of pages of SQLite.
const (
	tableInterior = 5
	tableLeaf     = 13
)

// sqlite is a file of SQLite.
type sqlite struct {
	r              io.ReaderAt
	size           int64
	pageSize       int64
	usable         int64 // bytes of a page that are used
	pages          int   // read so far
	maximum, depth int
}

// readSQLite calls do for the column blob of each row of the table Packages.
func readSQLite(r io.ReaderAt, size int64, start []byte, do func([]byte) error) error {
	f := &sqlite{r: r, size: size, pageSize: int64(binary.BigEndian.Uint16(start[16:]))}
	if f.pageSize == 1 {
		f.pageSize = 64 << 10
	}
	f.usable = f.pageSize - int64(start[20])
	if f.pageSize < 512 || f.pageSize&(f.pageSize-1) != 0 || f.usable < 480 {
		return fmt.Errorf("its pages have %d bytes: %w", f.pageSize, errFormat)
	}
	// A page of a sound database is read once.
	f.maximum = int(min(size/f.pageSize+1, maxPages))
	root := int64(0)
	err := f.table(1, func(row []column) error {
		if len(row) >= 4 && string(row[0].bytes) == "table" && string(row[1].bytes) == "Packages" {
			root = row[3].number
		}
		return nil
	})
	if err != nil {
		return err
	}
	if root == 0 {
		return fmt.Errorf("it has no table Packages: %w", errFormat)
	}
	return f.table(root, func(row []column) error {
		if len(row) < 2 {
			return fmt.Errorf("a row of %d columns: %w", len(row), errFormat)
		}
		return do(row[1].bytes)
	})
}

// maxDepth bounds the height of a tree: one of 20 has more rows than a file can hold.
const maxDepth = 20

// table calls do for each row of the tree below a page.
func (f *sqlite) table(number int64, do func([]column) error) error {
	if f.depth++; f.depth > maxDepth {
		return fmt.Errorf("its tree is too high: %w", errFormat)
	}
	defer func() { f.depth-- }()
	page, err := f.page(number)
	if err != nil {
		return err
	}
	head := page
	if number == 1 {
		head = page[100:] // behind the header of the file
	}
	kind, count, pointers := head[0], int(binary.BigEndian.Uint16(head[3:])), head[8:]
	if kind == tableInterior {
		pointers = head[12:]
	}
	if kind != tableInterior && kind != tableLeaf || 2*count > len(pointers) {
		return fmt.Errorf("page %d is not of a table: %w", number, errFormat)
	}
	for n := range count {
		at := int(binary.BigEndian.Uint16(pointers[2*n:]))
		if at+4 > len(page) {
			return fmt.Errorf("a cell at %d: %w", at, errFormat)
		}
		if kind == tableInterior {
			err = f.table(int64(binary.BigEndian.Uint32(page[at:])), do)
		} else {
			err = f.row(page[at:], do)
		}
		if err != nil {
			return err
		}
	}
	if kind == tableInterior {
		return f.table(int64(binary.BigEndian.Uint32(head[8:])), do)
	}
	return nil
}

// page returns the used bytes of a page. Pages count from 1.
func (f *sqlite) page(number int64) ([]byte, error) {
	if f.pages++; f.pages > 2*f.maximum {
		return nil, fmt.Errorf("its pages lead to each other: %w", errFormat)
	}
	return piece(f.r, f.size, (number-1)*f.pageSize, f.usable)
}

// row reads the cell of a row: the length of its record, its number, and the record, of which the end may
// be in pages that lead to each other.
func (f *sqlite) row(cell []byte, do func([]column) error) error {
	length, n := varint(cell)
	_, m := varint(cell[n:])
	cell = cell[n+m:]
	if n == 0 || m == 0 || length < 0 || length > min(maxHeader, f.size) {
		return fmt.Errorf("a row of %d bytes: %w", length, errFormat)
	}
	local := f.local(length)
	if local > int64(len(cell)) || local < length && local+4 > int64(len(cell)) {
		return fmt.Errorf("a row of %d bytes: %w", length, errFormat)
	}
	record := append(make([]byte, 0, local), cell[:local]...)
	if local < length {
		next := int64(binary.BigEndian.Uint32(cell[local:]))
		for int64(len(record)) < length {
			page, err := f.page(next)
			if err != nil {
				return err
			}
			record = append(record, page[4:min(f.usable, length-int64(len(record))+4)]...)
			next = int64(binary.BigEndian.Uint32(page))
		}
	}
	row, err := columns(record)
	if err != nil {
		return err
	}
	return do(row)
}

// local returns how many bytes of a record are on the page itself (fileformat2, 1.6).
func (f *sqlite) local(length int64) int64 {
	most := f.usable - 35
	if length <= most {
		return length
	}
	least := (f.usable-12)*32/255 - 23
	if k := least + (length-least)%(f.usable-4); k <= most {
		return k
	}
	return least
}

// column is a value: a number, or the bytes of a text or blob.
type column struct {
	number int64
	bytes  []byte
}

// columns reads a record: the length of its header, the kinds of the columns, and the columns
// (fileformat2, 2.1).
func columns(record []byte) ([]column, error) {
	damaged := fmt.Errorf("a record of %d bytes: %w", len(record), errFormat)
	length, n := varint(record)
	if n == 0 || length < int64(n) || length > int64(len(record)) {
		return nil, damaged
	}
	kinds, body := record[n:length], record[length:]
	var out []column
	for len(kinds) > 0 {
		kind, n := varint(kinds)
		if n == 0 || kind < 0 {
			return nil, damaged
		}
		kinds = kinds[n:]
		size := columnSize(kind)
		if size > int64(len(body)) {
			return nil, damaged
		}
		c := column{}
		switch {
		case kind >= 12:
			c.bytes = body[:size]
		case kind >= 8:
			c.number = kind - 8
		case kind <= 6:
			for i, b := range body[:size] {
				if i == 0 {
					c.number = int64(int8(b))
					continue
				}
				c.number = c.number<<8 | int64(b)
			}
		}
		out, body = append(out, c), body[size:]
	}
	return out, nil
}

// columnSize returns the bytes of a column of a kind.
func columnSize(kind int64) int64 {
	if kind >= 12 {
		return (kind - 12) / 2
	}
	return []int64{0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0}[kind]
}

// varint reads a number of up to nine bytes, of which each but the ninth has seven bits, and returns how
// many it has; none for one that is cut.
func varint(b []byte) (int64, int) {
	var v uint64
	for i := range min(len(b), 9) {
		if i == 8 {
			return int64(v<<8 | uint64(b[i])), 9
		}
		v = v<<7 | uint64(b[i]&0x7f)
		if b[i] < 0x80 {
			return int64(v), i + 1
		}
	}
	return 0, 0
}

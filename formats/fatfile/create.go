package fatfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// errFull says that a file system or its root directory has no room for another file.
var errFull = errors.New("the file system has no room for it")

// Create makes a file in the root directory; data is at most a sector, and not empty. A file
// that is there already is fs.ErrExist. The directory entry is written last: an interruption
// before leaves a cluster that belongs to no file.
func Create(m Medium, name string, data []byte) error {
	if err := create(m, name, data); err != nil {
		return fmt.Errorf("creating %s: %w", name, err)
	}
	return nil
}

func create(m Medium, name string, data []byte) error {
	v, _, err := find(m, name)
	switch {
	case err == nil:
		return fs.ErrExist
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case len(data) == 0 || len(data) > sector:
		return fmt.Errorf("it has %d bytes, want 1 to %d", len(data), sector)
	}
	at, err := v.freeEntry(m)
	if err != nil {
		return err
	}
	n, err := v.take(m)
	if err != nil {
		return err
	}
	whole := make([]byte, sector)
	copy(whole, data)
	if _, err := m.WriteAt(whole, v.cluster(n)); err != nil {
		return err
	}
	_, err = m.WriteAt(entry(name, n, len(data)), at)
	return err
}

// entry is a directory entry of 1 January 1980, the first day that one can have.
func entry(name string, first int64, size int) []byte {
	const archive, day = 0x20, 1<<5 | 1
	b := make([]byte, entrySize)
	short, _ := shortName(name) // it was looked for by this name
	copy(b, short)
	b[11] = archive
	for _, date := range []int{16, 18, 24} {
		binary.LittleEndian.PutUint16(b[date:], day)
	}
	binary.LittleEndian.PutUint16(b[20:], uint16(first>>16))
	binary.LittleEndian.PutUint16(b[26:], uint16(first))
	binary.LittleEndian.PutUint32(b[28:], uint32(size))
	return b
}

// freeEntry finds the place of an entry of the root directory that is not used.
func (v *volume) freeEntry(r io.ReaderAt) (int64, error) {
	var at int64
	free := func(b []byte, where int64) bool {
		at = where
		return b[0] == 0 || b[0] == 0xE5
	}
	found, err := v.walk(r, free)
	if err == nil && !found {
		err = errFull
	}
	return at, err
}

// take marks a free cluster as the only one of a file in all allocation tables.
func (v *volume) take(m Medium) (int64, error) {
	n, err := v.freeCluster(m)
	if err != nil {
		return 0, err
	}
	end := []byte{0xFF, 0xFF, 0xFF, 0x0F}[:v.width()]
	for i := range v.copies {
		if _, err := m.WriteAt(end, v.fat+i*v.fatBytes+n*v.width()); err != nil {
			return 0, err
		}
	}
	return n, v.countDown(m)
}

// freeCluster returns the first free one.
func (v *volume) freeCluster(r io.ReaderAt) (int64, error) {
	width := v.width()
	table := make([]byte, 64<<10)
	for first := int64(0); first < v.clusters+2; first += int64(len(table)) / width {
		part := table[:min(int64(len(table)), (v.clusters+2-first)*width)]
		if _, err := r.ReadAt(part, v.fat+first*width); err != nil {
			return 0, err
		}
		for i := int64(0); i < int64(len(part)); i += width {
			used := uint32(binary.LittleEndian.Uint16(part[i:]))
			if v.fat32 {
				used = binary.LittleEndian.Uint32(part[i:]) & 0x0FFFFFFF
			}
			if n := first + i/width; used == 0 && v.valid(n) {
				return n, nil
			}
		}
	}
	return 0, errFull
}

// width is the size of an entry of the allocation table.
func (v *volume) width() int64 {
	if v.fat32 {
		return 4
	}
	return 2
}

// countDown lowers the number of free clusters that a FAT32 file system notes, if it does.
func (v *volume) countDown(m Medium) error {
	const signature, freeCount, unknown = 484, 488, 0xFFFFFFFF
	if v.info == 0 {
		return nil
	}
	b := make([]byte, 8)
	if _, err := m.ReadAt(b, v.info+signature); err != nil {
		return err
	}
	free := binary.LittleEndian.Uint32(b[4:])
	if string(b[:4]) != "rrAa" || free == 0 || free == unknown {
		return nil
	}
	_, err := m.WriteAt(binary.LittleEndian.AppendUint32(nil, free-1), v.info+freeCount)
	return err
}

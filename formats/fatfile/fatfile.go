// Package fatfile reads and changes small files of the root directory of FAT16 and FAT32 file
// systems in place, on a medium that is not mounted: a file that fits into one sector is changed
// by one write, which is done or not.
//
// Format: Microsoft FAT32 File System Specification 1.03.
package fatfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

const (
	sector    = 512
	entrySize = 32
	// maxSector and maxDirectory bound what a damaged file system makes us read.
	maxSector    = 4096
	maxDirectory = 1 << 16 // entries
)

// Medium is a file system to change, for example the device of a partition.
type Medium interface {
	io.ReaderAt
	io.WriterAt
}

// Read returns the content of a file, at most a sector of it. name is in the form NAME.EXT of up
// to 8 and 3 characters, in any case. A file that is not there is fs.ErrNotExist.
func Read(r io.ReaderAt, name string) ([]byte, error) {
	v, f, err := find(r, name)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	out := make([]byte, min(f.size, sector))
	if _, err := r.ReadAt(out, v.cluster(f.first)); err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return out, nil
}

// Write changes the content of a file that is not empty to data, at most a sector. When the size
// stays the same this is one write; else the new size follows in a second one.
func Write(m Medium, name string, data []byte) error {
	v, f, err := find(m, name)
	if err == nil && (len(data) > sector || f.first == 0) {
		err = errors.New("it does not fit into the file's first sector")
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	whole := make([]byte, sector)
	copy(whole, data)
	if _, err := m.WriteAt(whole, v.cluster(f.first)); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	if f.size == int64(len(data)) {
		return nil
	}
	if _, err := m.WriteAt(binary.LittleEndian.AppendUint32(nil, uint32(len(data))), f.entry+28); err != nil {
		return fmt.Errorf("writing the size of %s: %w", name, err)
	}
	return nil
}

// volume is the geometry of a file system, in bytes.
type volume struct {
	fat32        bool
	fat, data    int64 // where they begin
	fatBytes     int64 // of one allocation table
	copies       int64 // of it
	info         int64 // FAT32: where the numbers of free clusters are; 0: nowhere
	clusterBytes int64
	clusters     int64
	root         int64 // FAT16: where the root directory begins; FAT32: its first cluster
	rootEntries  int   // FAT16
}

// file is an entry of the root directory.
type file struct {
	first, size int64
	entry       int64 // where the entry is
}

func (v *volume) cluster(n int64) int64 { return v.data + (n-2)*v.clusterBytes }

var errNotFAT = errors.New("the partition has no FAT16 or FAT32 file system")

// open reads the geometry.
func open(r io.ReaderAt) (*volume, error) {
	b := make([]byte, sector)
	if _, err := r.ReadAt(b, 0); err != nil {
		return nil, err
	}
	u16 := func(at int) int64 { return int64(binary.LittleEndian.Uint16(b[at:])) }
	u32 := func(at int) int64 { return int64(binary.LittleEndian.Uint32(b[at:])) }
	bytes, perCluster, copies := u16(11), int64(b[13]), int64(b[16])
	if u16(510) != 0xAA55 || bytes < sector || bytes > maxSector || bytes&(bytes-1) != 0 || perCluster == 0 || copies == 0 {
		return nil, errNotFAT
	}
	total, perFAT := u16(19), u16(22)
	if total == 0 {
		total = u32(32)
	}
	if perFAT == 0 {
		perFAT = u32(36)
	}
	v := &volume{fat: u16(14) * bytes, fatBytes: perFAT * bytes, copies: copies, clusterBytes: perCluster * bytes, rootEntries: int(u16(17))}
	root := v.fat + copies*perFAT*bytes
	v.data = root + (int64(v.rootEntries)*entrySize+bytes-1)/bytes*bytes
	v.clusters = (total*bytes - v.data) / v.clusterBytes
	v.fat32 = v.clusters >= 65525
	v.root = root
	if v.fat32 {
		v.root, v.info = u32(44), u16(48)*bytes
	}
	if v.clusters < 4085 || v.fat32 == (v.rootEntries > 0) {
		return nil, errNotFAT
	}
	return v, nil
}

// valid reports whether a cluster is one of the file system's.
func (v *volume) valid(n int64) bool { return n >= 2 && n < v.clusters+2 }

// next returns the cluster behind another in a FAT32 chain.
func (v *volume) next(r io.ReaderAt, n int64) (int64, error) {
	b := make([]byte, 4)
	_, err := r.ReadAt(b, v.fat+4*n)
	return int64(binary.LittleEndian.Uint32(b) & 0x0FFFFFFF), err
}

// find looks a file up in the root directory.
func find(r io.ReaderAt, name string) (*volume, *file, error) {
	short, err := shortName(name)
	if err != nil {
		return nil, nil, err
	}
	v, err := open(r)
	if err != nil {
		return nil, nil, err
	}
	var f *file
	found, err := v.walk(r, func(b []byte, at int64) bool {
		const label, directory = 0x08, 0x10 // long names have the first one too
		if string(b[:11]) != short || b[11]&(label|directory) != 0 {
			return false
		}
		f = v.file(b, at)
		return true
	})
	switch {
	case err != nil:
		return nil, nil, err
	case !found:
		return v, nil, fs.ErrNotExist
	case f.size > 0 && !v.valid(f.first):
		return nil, nil, errors.New("its directory entry is damaged")
	}
	return v, f, nil
}

// file takes what a directory entry says.
func (v *volume) file(b []byte, at int64) *file {
	first := int64(binary.LittleEndian.Uint16(b[26:]))
	if v.fat32 {
		first |= int64(binary.LittleEndian.Uint16(b[20:])) << 16
	}
	return &file{first, int64(binary.LittleEndian.Uint32(b[28:])), at}
}

// walk calls found for each entry of the root directory and the first one behind them, until
// it is true, and reports whether it was.
func (v *volume) walk(r io.ReaderAt, found func(b []byte, at int64) bool) (bool, error) {
	if !v.fat32 {
		ok, _, err := v.scan(r, v.root, v.rootEntries, found)
		return ok, err
	}
	perCluster := int(v.clusterBytes / entrySize)
	for n, seen := v.root, 0; v.valid(n) && seen < maxDirectory; seen += perCluster {
		ok, last, err := v.scan(r, v.cluster(n), perCluster, found)
		if ok || last || err != nil {
			return ok, err
		}
		if n, err = v.next(r, n); err != nil {
			return false, err
		}
	}
	return false, nil
}

// scan calls found for entries of a directory until it is true; last is set when the
// directory ends there.
func (v *volume) scan(r io.ReaderAt, at int64, entries int, found func(b []byte, at int64) bool) (ok, last bool, err error) {
	b := make([]byte, entrySize)
	for range min(entries, maxDirectory) {
		if _, err := r.ReadAt(b, at); err != nil {
			return false, false, err
		}
		if found(b, at) {
			return true, false, nil
		}
		if b[0] == 0 {
			return false, true, nil
		}
		at += entrySize
	}
	return false, false, nil
}

// shortName returns a name in the form of directory entries.
func shortName(name string) (string, error) {
	base, ext, _ := strings.Cut(strings.ToUpper(name), ".")
	if base == "" || len(base) > 8 || len(ext) > 3 || strings.ContainsAny(base+ext, "./\\ ") {
		return "", fmt.Errorf("%q is not a name of up to 8 and 3 characters", name)
	}
	return fmt.Sprintf("%-8s%-3s", base, ext), nil
}

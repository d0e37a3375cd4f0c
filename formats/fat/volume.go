package fat

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"
	"unicode/utf16"
)

// Attributes of directory entries.
const (
	attrLabel   = 0x08
	attrDir     = 0x10
	attrArchive = 0x20
	attrLong    = 0x0F
)

var le = binary.LittleEndian

// volume is a file system under construction.
type volume struct {
	w io.WriterAt
	geometry
	Options
	used int64 // clusters
}

func (v *volume) write(top *node) error {
	fat := make([]byte, (v.used+root)*v.width)
	v.enter(fat, 0, v.end&^7) // the media byte F8
	v.enter(fat, 1, v.end)
	if err := v.writeNode(top, fat); err != nil {
		return err
	}
	for i := range int64(2) {
		if err := v.table(i, fat); err != nil {
			return err
		}
	}
	if err := v.zeros(0, v.reserved*sector, "reserved sectors"); err != nil {
		return err
	}
	if v.rootSectors > 0 {
		return v.put(0, v.bootSector16(), "boot sector")
	}
	boot, info := v.bootSector(), v.infoSector()
	for _, at := range []int64{0, 6} { // the second is the backup
		if err := v.put(at*sector, append(boot, info...), "boot sector"); err != nil {
			return err
		}
	}
	return nil
}

// table writes allocation table i to its end: readers take what is in the rest of it for
// used clusters, so on a used medium zeros must replace what was there.
func (v *volume) table(i int64, fat []byte) error {
	const what = "allocation table"
	at, end := (v.reserved+i*v.fatSectors)*sector, (v.reserved+(i+1)*v.fatSectors)*sector
	if err := v.put(at, fat, what); err != nil {
		return err
	}
	return v.zeros(at+int64(len(fat)), end, what)
}

// zeros writes zeros from one offset to another, so that the range is data of a sparse
// image and not a hole.
func (v *volume) zeros(from, to int64, what string) error {
	buf := make([]byte, 64<<10)
	for from < to {
		n := min(to-from, int64(len(buf)))
		if err := v.put(from, buf[:n], what); err != nil {
			return err
		}
		from += n
	}
	return nil
}

func (v *volume) put(at int64, data []byte, what string) error {
	if _, err := v.w.WriteAt(data, at); err != nil {
		return fmt.Errorf("writing the %s: %w", what, err)
	}
	return nil
}

func (v *volume) writeNode(n *node, fat []byte) error {
	for i := range n.count {
		next := uint32(n.cluster + i + 1)
		if i == n.count-1 {
			next = v.end
		}
		v.enter(fat, n.cluster+i, next)
	}
	if !n.isDir() {
		return v.writeFile(n)
	}
	if err := v.put(v.directoryAt(n), v.directory(n), "directory "+n.name); err != nil {
		return err
	}
	for _, c := range n.children {
		if err := v.writeNode(c, fat); err != nil {
			return err
		}
	}
	return nil
}

// enter sets the entry of a cluster in a table.
func (v *volume) enter(fat []byte, cluster int64, next uint32) {
	if v.width == 2 {
		le.PutUint16(fat[cluster*2:], uint16(next))
		return
	}
	le.PutUint32(fat[cluster*4:], next)
}

// fixedRoot reports whether a node is the root directory of FAT16.
func (v *volume) fixedRoot(n *node) bool { return n.parent == nil && v.rootSectors > 0 }

func (v *volume) directoryAt(n *node) int64 {
	if v.fixedRoot(n) {
		return v.rootStart()
	}
	return v.offset(n.cluster)
}

func (v *volume) writeFile(n *node) error {
	if n.file.Size == 0 {
		return nil
	}
	if err := n.file.WriteContent(io.NewOffsetWriter(v.w, v.offset(n.cluster))); err != nil {
		return fmt.Errorf("writing %s: %w", n.file.Name, err)
	}
	return nil
}

func (v *volume) directory(n *node) []byte {
	var b []byte
	if n.parent == nil {
		var label [11]byte
		copy(label[:], fmt.Sprintf("%-11s", v.Label))
		b = appendEntry(b, label, attrLabel, v.Time, 0, 0)
	} else {
		up := n.parent.cluster
		if n.parent.parent == nil {
			up = 0 // the root is written as 0 in ".."
		}
		b = appendEntry(b, [11]byte([]byte(".          ")), attrDir, n.time, n.cluster, 0)
		b = appendEntry(b, [11]byte([]byte("..         ")), attrDir, n.parent.time, up, 0)
	}
	for _, c := range n.children {
		b = appendLong(b, c)
		if c.isDir() {
			b = appendEntry(b, c.short, attrDir, c.time, c.cluster, 0)
			continue
		}
		b = appendEntry(b, c.short, attrArchive, c.time, c.cluster, uint32(c.file.Size))
	}
	size := n.count * v.clusterBytes()
	if v.fixedRoot(n) {
		size = v.rootSectors * sector
	}
	return append(b, make([]byte, size-int64(len(b)))...)
}

func appendEntry(b []byte, name [11]byte, attr byte, at time.Time, cluster int64, size uint32) []byte {
	date, clock := stamp(at)
	var e [entry]byte
	copy(e[:], name[:])
	e[11] = attr
	le.PutUint16(e[14:], clock)
	le.PutUint16(e[16:], date)
	le.PutUint16(e[18:], date)
	le.PutUint16(e[20:], uint16(cluster>>16))
	le.PutUint16(e[22:], clock)
	le.PutUint16(e[24:], date)
	le.PutUint16(e[26:], uint16(cluster))
	le.PutUint32(e[28:], size)
	return append(b, e[:]...)
}

// The times that FAT has.
var (
	earliest = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	latest   = time.Date(2107, 12, 31, 23, 59, 58, 0, time.UTC)
)

// stamp returns the nearest time that FAT has.
func stamp(t time.Time) (date, clock uint16) {
	t = t.UTC()
	if t.Before(earliest) {
		t = earliest
	} else if t.After(latest) {
		t = latest
	}
	date = uint16(t.Year()-1980)<<9 | uint16(t.Month())<<5 | uint16(t.Day())
	clock = uint16(t.Hour())<<11 | uint16(t.Minute())<<5 | uint16(t.Second()/2)
	return date, clock
}

// appendLong writes the pieces of a long name, the last piece first.
func appendLong(b []byte, n *node) []byte {
	if !n.long {
		return b
	}
	units := utf16.Encode([]rune(n.name))
	pieces := int(n.longEntries())
	for i := pieces; i >= 1; i-- {
		var e [entry]byte
		e[0], e[11], e[13] = byte(i), attrLong, checksum(n.short)
		if i == pieces {
			e[0] |= 0x40
		}
		for j, at := range []int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30} {
			le.PutUint16(e[at:], longUnit(units, (i-1)*13+j))
		}
		b = append(b, e[:]...)
	}
	return b
}

// longUnit returns a character of a long name: after the end come one zero, then all ones.
func longUnit(units []uint16, i int) uint16 {
	switch {
	case i < len(units):
		return units[i]
	case i == len(units):
		return 0
	}
	return 0xFFFF
}

func checksum(short [11]byte) byte {
	var sum byte
	for _, c := range short {
		sum = sum>>1 | sum<<7
		sum += c
	}
	return sum
}

// bootSector16 is that of FAT16.
func (v *volume) bootSector16() []byte {
	b := make([]byte, sector)
	copy(b, "\xEB\x3C\x90mkfs.fat")
	le.PutUint16(b[11:], sector)
	b[13] = byte(v.perCluster)
	le.PutUint16(b[14:], uint16(v.reserved))
	b[16], b[21] = 2, 0xF8
	le.PutUint16(b[17:], uint16(v.rootSectors*sector/entry))
	if v.sectors < 1<<16 {
		le.PutUint16(b[19:], uint16(v.sectors))
	} else {
		le.PutUint32(b[32:], uint32(v.sectors))
	}
	le.PutUint16(b[22:], uint16(v.fatSectors))
	le.PutUint16(b[24:], 32) // sectors per track and heads: unused with LBA
	le.PutUint16(b[26:], 64)
	le.PutUint32(b[28:], v.Hidden)
	b[36], b[38] = 0x80, 0x29
	le.PutUint32(b[39:], v.ID)
	copy(b[43:], fmt.Sprintf("%-11sFAT16   ", v.Label))
	b[510], b[511] = 0x55, 0xAA
	return b
}

func (v *volume) bootSector() []byte {
	b := make([]byte, sector)
	copy(b, "\xEB\x58\x90mkfs.fat") // the name that old readers look for
	le.PutUint16(b[11:], sector)
	b[13] = byte(v.perCluster)
	le.PutUint16(b[14:], uint16(v.reserved))
	b[16], b[21] = 2, 0xF8
	le.PutUint16(b[24:], 32) // sectors per track and heads: unused with LBA
	le.PutUint16(b[26:], 64)
	le.PutUint32(b[28:], v.Hidden)
	le.PutUint32(b[32:], uint32(v.sectors))
	le.PutUint32(b[36:], uint32(v.fatSectors))
	le.PutUint32(b[44:], root)
	le.PutUint16(b[48:], 1) // information sector
	le.PutUint16(b[50:], 6) // backup
	b[64], b[66] = 0x80, 0x29
	le.PutUint32(b[67:], v.ID)
	copy(b[71:], fmt.Sprintf("%-11sFAT32   ", v.Label))
	b[510], b[511] = 0x55, 0xAA
	return b
}

func (v *volume) infoSector() []byte {
	b := make([]byte, sector)
	copy(b, "RRaA")
	copy(b[484:], "rrAa")
	le.PutUint32(b[488:], uint32(v.total-v.used))
	le.PutUint32(b[492:], uint32(v.used+root-1))
	b[510], b[511] = 0x55, 0xAA
	return b
}

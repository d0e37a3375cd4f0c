package fat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/pantavisor/pantavisor/formats/region"
	"github.com/pantavisor/pantavisor/formats/tree"
)

// errFormat is wrapped by every error about bytes that are not a FAT16 or FAT32 file system.
var errFormat = errors.New("not a FAT16 or FAT32 file system")

// FS is a file system that is read. The first allocation table is in memory.
type FS struct {
	r            io.ReaderAt
	boot         []byte
	sector       int64
	reserved     int64 // all of these in bytes
	tableSize    int64
	copies       int64
	root         int64 // FAT16: where the root directory begins; FAT32: its first cluster
	rootSize     int64 // FAT16
	data         int64
	cluster      int64
	clusters     int64
	wide         bool // FAT32
	table        []byte
	size         int64
	volumeNumber int   // offset in the boot sector
	taken        int64 // clusters of the files of one walk
}

// Limits of what a damaged file system makes us read.
const (
	maxTable     = 64 << 20
	maxDirectory = 2 << 20
	maxDepth     = 64
)

// Open reads the geometry and the allocation table of the file system at byte 0 of r.
func Open(r io.ReaderAt) (*FS, error) {
	f := &FS{r: r, boot: make([]byte, sector)}
	if _, err := r.ReadAt(f.boot, 0); err != nil {
		return nil, fmt.Errorf("reading the boot sector: %w", err)
	}
	if !f.measure() {
		return nil, fmt.Errorf("reading the boot sector: %w", errFormat)
	}
	width := int64(2)
	if f.wide {
		width = 4
	}
	if f.tableSize > maxTable || (f.clusters+2)*width > f.tableSize {
		return nil, fmt.Errorf("reading the boot sector: %d clusters with tables of %d bytes: %w", f.clusters, f.tableSize, errFormat)
	}
	f.table = make([]byte, (f.clusters+2)*width)
	if _, err := r.ReadAt(f.table, f.reserved); err != nil {
		return nil, fmt.Errorf("reading the allocation table: %w", err)
	}
	return f, nil
}

// measure takes the geometry from the boot sector, and reports whether there is one.
func (f *FS) measure() bool {
	b := f.boot
	u16 := func(at int) int64 { return int64(le.Uint16(b[at:])) }
	f.sector, f.copies = u16(11), int64(b[16])
	perCluster, total, perTable := int64(b[13]), u16(19), u16(22)
	if u16(510) != 0xAA55 || f.sector < sector || f.sector > 4096 || f.sector&(f.sector-1) != 0 || perCluster == 0 || perCluster&(perCluster-1) != 0 || f.copies == 0 {
		return false
	}
	if total == 0 {
		total = int64(le.Uint32(b[32:]))
	}
	if perTable == 0 {
		perTable = int64(le.Uint32(b[36:]))
	}
	f.size, f.reserved, f.tableSize, f.cluster = total*f.sector, u16(14)*f.sector, perTable*f.sector, perCluster*f.sector
	f.root = f.reserved + f.copies*f.tableSize
	f.rootSize = (u16(17)*entry + f.sector - 1) / f.sector * f.sector
	f.data = f.root + f.rootSize
	f.clusters = (f.size - f.data) / f.cluster
	f.wide, f.volumeNumber = f.clusters >= 65525, 39
	if f.wide {
		f.root, f.volumeNumber = int64(le.Uint32(b[44:])), 67
	}
	return f.clusters >= 4085 && f.wide == (f.rootSize == 0) && f.reserved > 0
}

// Bits returns 16 or 32.
func (f *FS) Bits() int {
	if f.wide {
		return 32
	}
	return 16
}

// Number returns the volume number.
func (f *FS) Number() uint32 { return le.Uint32(f.boot[f.volumeNumber:]) }

// Label returns the label of the boot sector.
func (f *FS) Label() string {
	return strings.TrimRight(string(f.boot[f.volumeNumber+4:f.volumeNumber+15]), " ")
}

// Size returns the size of the file system in bytes.
func (f *FS) Size() int64 { return f.size }

// File is a name in a file system.
type File struct {
	tree.Entry
	// Content is that of a regular file.
	Content *region.Mapped
	// Attributes are those of the directory entry.
	Attributes byte

	first uint32
	runs  []region.Run
}

// next returns the cluster behind another, and whether there is one.
func (f *FS) next(cluster uint32) (uint32, bool) {
	if !f.wide {
		n := uint32(le.Uint16(f.table[int64(cluster)*2:]))
		return n, n < 0xfff8
	}
	n := le.Uint32(f.table[int64(cluster)*4:]) & 0x0fffffff
	return n, n < 0x0ffffff8
}

// chain returns the runs of the clusters from the first one on, up to limit bytes.
func (f *FS) chain(first uint32, limit int64) ([]region.Run, error) {
	var runs []region.Run
	for at, ok := int64(0), true; ok && at < limit && at <= f.size; at += f.cluster {
		if f.taken++; f.taken > f.clusters {
			return nil, fmt.Errorf("files have more than all %d clusters: %w", f.clusters, errFormat)
		}
		if first < 2 || int64(first) >= f.clusters+2 {
			return nil, fmt.Errorf("cluster %d of %d: %w", first, f.clusters, errFormat)
		}
		from := f.data + int64(first-2)*f.cluster
		if last := len(runs) - 1; last >= 0 && runs[last].From+runs[last].Length == from {
			runs[last].Length += f.cluster
		} else {
			runs = append(runs, region.Run{Offset: at, Length: f.cluster, From: from})
		}
		first, ok = f.next(first)
	}
	return runs, nil
}

// Walk calls do for every name, the root first and a directory before what is in it, in the
// order of the directories.
func (f *FS) Walk(ctx context.Context, do func(*File) error) error {
	root := &File{Entry: tree.Dir(".", 0o755)}
	if f.wide {
		root.first = uint32(f.root)
	} else {
		root.runs = []region.Run{{Length: f.rootSize, From: f.root}}
	}
	f.taken = 0
	w := &walker{f, do, map[uint32]bool{}}
	return w.directory(ctx, root, 0)
}

type walker struct {
	fs   *FS
	do   func(*File) error
	seen map[uint32]bool // first clusters of directories
}

func (w *walker) directory(ctx context.Context, d *File, depth int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if d.first != 0 {
		if w.seen[d.first] || depth > maxDepth {
			return fmt.Errorf("directory %s is in itself or has two names: %w", d.Name, errFormat)
		}
		w.seen[d.first] = true
		var err error
		if d.runs, err = w.fs.chain(d.first, maxDirectory); err != nil {
			return fmt.Errorf("reading directory %s: %w", d.Name, err)
		}
	}
	if err := w.do(d); err != nil {
		return err
	}
	files, err := w.fs.list(d)
	if err != nil {
		return fmt.Errorf("reading directory %s: %w", d.Name, err)
	}
	for _, n := range files {
		if n.Mode.IsDir() {
			err = w.directory(ctx, n, depth+1)
		} else {
			err = w.do(n)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// list returns what is in a directory.
func (f *FS) list(d *File) ([]*File, error) {
	size := int64(0)
	for _, r := range d.runs {
		size += r.Length
	}
	b := make([]byte, size)
	if _, err := region.NewMapped(f.r, size, d.runs).ReadAt(b, 0); err != nil {
		return nil, err
	}
	var out []*File
	var long longName
	for ; len(b) >= entry && b[0] != 0; b = b[entry:] {
		e := b[:entry]
		switch {
		case e[0] == 0xE5 || e[0] == '.':
		case e[11]&0x3f == attrLong:
			long.add(e)
			continue
		case e[11]&attrLabel != 0:
		default:
			n, err := f.file(e, path.Clean(d.Name), long.of(e))
			if err != nil {
				return nil, err
			}
			out = append(out, n)
		}
		long = longName{}
	}
	return out, nil
}

// longName collects the pieces of a long name, of which the last comes first.
type longName struct {
	units [20 * 13]uint16
	sum   byte
	have  int
}

func (l *longName) add(e []byte) {
	n := int(e[0] & 0x3f)
	if n < 1 || n > 20 {
		return
	}
	l.have, l.sum = max(l.have, n), e[13]
	for i, at := range []int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30} {
		l.units[(n-1)*13+i] = le.Uint16(e[at:])
	}
}

// of returns the name of an entry: the long one if it belongs to it.
func (l *longName) of(e []byte) string {
	if l.have > 0 && l.sum == checksum([11]byte(e[:11])) {
		units := l.units[:l.have*13]
		for i, u := range units {
			if u == 0 {
				units = units[:i]
				break
			}
		}
		return string(utf16.Decode(units))
	}
	base, ext := strings.TrimRight(string(e[:8]), " "), strings.TrimRight(string(e[8:11]), " ")
	if base != "" && base[0] == 0x05 {
		base = "\xe5" + base[1:]
	}
	const lowerBase, lowerExt = 8, 16 // of Windows NT
	if e[12]&lowerBase != 0 {
		base = strings.ToLower(base)
	}
	if e[12]&lowerExt != 0 {
		ext = strings.ToLower(ext)
	}
	if ext != "" {
		return base + "." + ext
	}
	return base
}

// file reads a directory entry.
func (f *FS) file(e []byte, dir, name string) (*File, error) {
	if tree.CheckName(name) != nil || path.Base(name) != name {
		return nil, fmt.Errorf("the name %.300q: %w", name, errFormat)
	}
	n := &File{Attributes: e[11], first: uint32(le.Uint16(e[26:]))}
	if f.wide {
		n.first |= uint32(le.Uint16(e[20:])) << 16
	}
	n.Entry = tree.Entry{Name: path.Join(dir, name), Mode: 0o755, ModTime: entryTime(le.Uint16(e[24:]), le.Uint16(e[22:]))}
	if e[11]&attrDir != 0 {
		n.Mode |= fs.ModeDir
		if n.first == 0 {
			return nil, fmt.Errorf("directory %s has no clusters: %w", n.Name, errFormat)
		}
		return n, nil
	}
	n.Size = int64(le.Uint32(e[28:]))
	if n.Size > 0 {
		var err error
		if n.runs, err = f.chain(n.first, n.Size); err != nil {
			return nil, fmt.Errorf("reading %s: %w", n.Name, err)
		}
	}
	if last := len(n.runs) - 1; last >= 0 && n.runs[last].Offset+n.runs[last].Length < n.Size {
		return nil, fmt.Errorf("%s has fewer clusters than its %d bytes need: %w", n.Name, n.Size, errFormat)
	}
	content := region.NewMapped(f.r, n.Size, n.runs)
	n.Content = content
	n.Open = func() (io.ReadCloser, error) { return io.NopCloser(content.Reader()), nil }
	return n, nil
}

// entryTime is the reverse of stamp.
func entryTime(date, clock uint16) time.Time {
	return time.Date(1980+int(date>>9), time.Month(date>>5&15), int(date&31), int(clock>>11), int(clock>>5&63), int(clock&31)*2, 0, time.UTC)
}

// Regions describes the file system.
func (f *FS) Regions(ctx context.Context, add region.Add) error {
	add.Own(0, f.size, "a cluster that no file uses")
	add.Own(0, f.reserved, "reserved sectors")
	add.Own(0, f.sector, "boot sector")
	if f.wide {
		info, backup := int64(le.Uint16(f.boot[48:]))*f.sector, int64(le.Uint16(f.boot[50:]))*f.sector
		if info > 0 && info < f.reserved {
			add.Own(info, f.sector, "sector with the number of free clusters")
		}
		if backup > 0 && backup < f.reserved {
			add.Own(backup, f.sector, "copy of the boot sector")
		}
	}
	for i := range f.copies {
		add.Own(f.reserved+i*f.tableSize, f.tableSize, "allocation table %d", i+1)
	}
	return f.Walk(ctx, func(n *File) error {
		for _, r := range n.runs {
			if n.Content == nil {
				add.Own(r.From, r.Length, "directory %s", n.Name)
				continue
			}
			used := min(r.Length, n.Size-r.Offset)
			add(r.From, used, func() region.Place { return region.Place{Name: "file", File: n.Name, Offset: r.Offset} })
			add.Own(r.From+used, r.Length-used, "the unused end of the last cluster of %s", n.Name)
		}
		return nil
	})
}

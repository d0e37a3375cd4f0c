package ext4

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"

	"github.com/pantavisor/pantavisor/formats/region"
	"github.com/pantavisor/pantavisor/formats/tree"
)

// FS is a file system that is read. What is at its place counts: a journal that was not
// replayed is not read.
type FS struct {
	*volume
	super     []byte
	inodeSize int64
	perGroup  int64 // inodes
	count     int64 // of all inodes
	tables    []int64
}

// readable are the features without which a reader is not right that this one knows: types
// in directories, a journal to replay, extents, 64 bits, flexible groups, a seed of checksums,
// and large directories.
const readable = fileTypes | 0x4 | extentTrees | wide | flexGroups | 0x2000 | 0x4000

// maxGroups bounds the memory for a file system: it is that of 16 TiB with blocks of 4 KiB.
const maxGroups = 1 << 17

// Open reads the geometry of the file system at byte 0 of r.
func Open(r io.ReaderAt) (*FS, error) {
	v, err := open(r, 0)
	if err != nil {
		return nil, err
	}
	f := &FS{volume: v, super: make([]byte, 1024), inodeSize: 128}
	if _, err := r.ReadAt(f.super, superblockAt); err != nil {
		return nil, fmt.Errorf("reading the superblock: %w", err)
	}
	if le.Uint32(f.super[76:]) > 0 {
		f.inodeSize = int64(le.Uint16(f.super[88:]))
	}
	f.perGroup, f.count = int64(le.Uint32(f.super[40:])), int64(le.Uint32(f.super))
	unknown := le.Uint32(f.super[96:]) &^ readable
	switch {
	case unknown != 0:
		return nil, fmt.Errorf("it has the features %#x, which cannot be read: %w", unknown, errFormat)
	case f.inodeSize < 128 || f.inodeSize > f.block || f.perGroup < 1 || v.groups() > maxGroups || f.count > f.perGroup*v.groups():
		return nil, fmt.Errorf("reading the superblock: inodes of %d bytes, %d in each of %d groups: %w", f.inodeSize, f.perGroup, v.groups(), errFormat)
	}
	return f, f.descriptors()
}

// descriptors reads where the inodes are.
func (f *FS) descriptors() error {
	all := make([]byte, f.groups()*f.descriptor)
	if _, err := f.r.ReadAt(all, (f.first+1)*f.block); err != nil {
		return fmt.Errorf("reading the descriptors of groups: %w", err)
	}
	for n := range f.groups() {
		at := f.pointer(all[n*f.descriptor:(n+1)*f.descriptor], 8)
		if at+f.inodes > f.blocks {
			return fmt.Errorf("the inodes of group %d are in block %d of %d: %w", n, at, f.blocks, errFormat)
		}
		f.tables = append(f.tables, at)
	}
	return nil
}

// Label returns the name of the file system.
func (f *FS) Label() string { return string(bytes.TrimRight(f.super[120:120+maxLabel], "\x00")) }

// UUID returns its identifier as text.
func (f *FS) UUID() string {
	h := hex.EncodeToString(f.super[104:120])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// Features returns the three words of features: what a system that does not know them may do
// nothing about, must not mount, and must not write.
func (f *FS) Features() [3]uint32 {
	return [3]uint32{le.Uint32(f.super[92:]), le.Uint32(f.super[96:]), le.Uint32(f.super[100:])}
}

// Size returns the size of the file system in bytes.
func (f *FS) Size() int64 { return f.blocks * f.block }

// BlockSize returns the size of blocks in bytes.
func (f *FS) BlockSize() int64 { return f.block }

// File is a name in a file system.
type File struct {
	tree.Entry
	// Inode is its number.
	Inode uint32
	// Content is that of a regular file.
	Content *region.Mapped

	runs  []region.Run // of anything that has blocks
	nodes []int64      // blocks of the tree of extents
	attrs int64        // the block of attributes, 0 for none
	links uint16
	list  int64 // the size of a directory
}

// Walk calls do for every name, the root first and a directory before what is in it, names in
// the order of the directory. Further names of a file are hard links.
func (f *FS) Walk(ctx context.Context, do func(*File) error) error {
	w := &walker{fs: f, do: do, names: map[uint32]string{}, seen: map[uint32]bool{}}
	return w.directory(ctx, rootInode, ".")
}

type walker struct {
	fs    *FS
	do    func(*File) error
	names map[uint32]string // first names of files with several, by inode
	seen  map[uint32]bool   // directories
}

func (w *walker) directory(ctx context.Context, number uint32, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if w.seen[number] {
		return fmt.Errorf("directory %s is in itself or has two names: %w", name, errFormat)
	}
	w.seen[number] = true
	d, err := w.fs.inode(number, name)
	if err != nil {
		return err
	}
	if err := w.do(d); err != nil {
		return err
	}
	return w.fs.listing(d, func(child string, number uint32) error {
		child = path.Join(name, child)
		n, err := w.fs.inode(number, child)
		if err != nil {
			return err
		}
		if n.Mode.IsDir() {
			return w.directory(ctx, number, child)
		}
		if n.links > 1 {
			if first, ok := w.names[number]; ok {
				n.HardLink = first
			} else {
				w.names[number] = child
			}
		}
		return w.do(n)
	})
}

// listing calls do for each name in a directory.
func (f *FS) listing(d *File, do func(name string, inode uint32) error) error {
	damaged := fmt.Errorf("directory %s is damaged: %w", d.Name, errFormat)
	b := make([]byte, f.block)
	content := region.NewMapped(f.r, d.list, d.runs)
	for at := int64(0); at < d.list; at += f.block {
		if _, err := content.ReadAt(b, at); err != nil {
			return fmt.Errorf("reading directory %s: %w", d.Name, err)
		}
		for rest := b; len(rest) > 0; {
			if len(rest) < 8 {
				return damaged
			}
			number, length, size := le.Uint32(rest), int(le.Uint16(rest[4:])), int(rest[6])
			if length < 8 || length > len(rest) || 8+size > length {
				return damaged
			}
			name := string(rest[8 : 8+size])
			rest = rest[length:]
			if number == 0 || name == "." || name == ".." {
				continue
			}
			if tree.CheckName(name) != nil || path.Base(name) != name {
				return fmt.Errorf("directory %s has the name %.300q: %w", d.Name, name, errFormat)
			}
			if err := do(name, number); err != nil {
				return err
			}
		}
	}
	return nil
}

// inodeAt returns where an inode is.
func (f *FS) inodeAt(number uint32) int64 {
	n := int64(number) - 1
	return f.tables[n/f.perGroup]*f.block + n%f.perGroup*f.inodeSize
}

// Flags of inodes with content that is in another form.
const otherContent = 0x4 | 0x800 | 0x10000000 // compressed, encrypted, in the inode

// inode reads an inode.
func (f *FS) inode(number uint32, name string) (*File, error) {
	if number < 1 || int64(number) > f.count {
		return nil, fmt.Errorf("%s has inode %d of %d: %w", name, number, f.count, errFormat)
	}
	b := make([]byte, f.inodeSize)
	if _, err := f.r.ReadAt(b, f.inodeAt(number)); err != nil {
		return nil, fmt.Errorf("reading inode %d of %s: %w", number, name, err)
	}
	n := &File{Inode: number, links: le.Uint16(b[26:])}
	n.Entry = tree.Entry{
		Name: name, Mode: tree.FileMode(uint32(le.Uint16(b))),
		UID: uint32(le.Uint16(b[2:])) | uint32(le.Uint16(b[120:]))<<16, GID: uint32(le.Uint16(b[24:])) | uint32(le.Uint16(b[122:]))<<16,
		ModTime: inodeTime(b), Size: int64(le.Uint32(b[4:])) | int64(le.Uint32(b[108:]))<<32,
	}
	err := f.content(n, b)
	if err == nil {
		n.Xattrs, err = f.readAttributes(n, b)
	}
	if err != nil {
		return nil, fmt.Errorf("reading inode %d of %s: %w", number, name, err)
	}
	return n, nil
}

// inodeTime returns the time of the last modification.
func inodeTime(b []byte) time.Time {
	seconds, nano := int64(int32(le.Uint32(b[16:]))), int64(0)
	if len(b) >= 140 && le.Uint16(b[128:]) >= 12 {
		extra := le.Uint32(b[136:])
		seconds += int64(extra&3) << 32
		nano = int64(extra >> 2)
	}
	return time.Unix(seconds, nano).UTC()
}

// content reads what is particular to a type of file.
func (f *FS) content(n *File, b []byte) error {
	flags, body := le.Uint32(b[32:]), b[40:100]
	if n.Size < 0 || n.Size > 1<<52 {
		return fmt.Errorf("it has %d bytes: %w", n.Size, errFormat)
	}
	if shallow(n, flags, body) {
		n.Size = 0
		return nil
	}
	if flags&otherContent != 0 || flags&extentsFlag == 0 && n.Size > 0 {
		return fmt.Errorf("its content is in a form that cannot be read (flags %#x): %w", flags, errFormat)
	}
	if flags&extentsFlag != 0 {
		if err := f.extents(n, body, 5); err != nil {
			return err
		}
	}
	content := region.NewMapped(f.r, n.Size, n.runs)
	switch {
	case n.Mode.IsRegular():
		n.Content = content
		n.Open = func() (io.ReadCloser, error) { return io.NopCloser(content.Reader()), nil }
	case n.Mode.Type() == fs.ModeSymlink:
		link := make([]byte, min(n.Size, 4096))
		if _, err := content.ReadAt(link, 0); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		n.Link, n.Size = string(link), 0
	case n.Size > 1<<32:
		return fmt.Errorf("the directory has %d bytes: %w", n.Size, errFormat)
	default:
		n.list, n.Size = n.Size, 0
	}
	return nil
}

// shallow takes what an inode has in itself, and reports whether that is all: anything but
// regular files, directories and long links.
func shallow(n *File, flags uint32, body []byte) bool {
	switch n.Mode.Type() {
	case fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
		n.Major, n.Minor = deviceNumbers(le.Uint32(body), le.Uint32(body[4:]))
		return true
	case fs.ModeSymlink:
		if n.Size < int64(len(body)) && flags&extentsFlag == 0 {
			n.Link = string(body[:n.Size])
			return true
		}
		return false
	case 0, fs.ModeDir:
		return false
	}
	return true
}

// deviceNumbers reads the numbers of a device: the old form is the first word, the new one the
// second.
func deviceNumbers(old, wide uint32) (major, minor uint32) {
	if old != 0 {
		return old >> 8 & 0xff, old & 0xff
	}
	return wide >> 8 & 0xfff, wide&0xff | wide>>12&^0xff
}

// uninitializedExtent is what is added to the length of an extent that reads as zeros.
const uninitializedExtent = 32768

// maxRuns bounds the memory for the runs of a file.
const maxRuns = 1 << 22

// maxExtentNodes bounds the blocks of a tree of extents: so many have maxRuns entries in blocks of
// 1 KiB. A damaged tree may have a block many times.
const maxExtentNodes = 1 << 16

// extents adds the runs below a node of the tree of extents.
func (f *FS) extents(n *File, node []byte, deepest int) error {
	damaged := fmt.Errorf("its tree of extents is damaged: %w", errFormat)
	count, depth := int(le.Uint16(node[2:])), int(le.Uint16(node[6:]))
	if le.Uint16(node) != extentMagic || depth > deepest || extentEntry*(count+1) > len(node) || len(n.runs) > maxRuns {
		return damaged
	}
	for e := node[extentEntry:]; count > 0; count, e = count-1, e[extentEntry:] {
		if depth > 0 {
			at := int64(le.Uint32(e[4:])) | int64(le.Uint16(e[8:]))<<32
			if at >= f.blocks || len(n.nodes) == maxExtentNodes {
				return damaged
			}
			b := make([]byte, f.block)
			if _, err := f.r.ReadAt(b, at*f.block); err != nil {
				return err
			}
			n.nodes = append(n.nodes, at)
			if err := f.extents(n, b, depth-1); err != nil {
				return err
			}
			continue
		}
		logical, length := int64(le.Uint32(e)), int64(le.Uint16(e[4:]))
		start := int64(le.Uint32(e[8:])) | int64(le.Uint16(e[6:]))<<32
		if length > uninitializedExtent {
			continue
		}
		if last := len(n.runs) - 1; start+length > f.blocks || last >= 0 && n.runs[last].Offset+n.runs[last].Length > logical*f.block {
			return damaged
		}
		n.runs = append(n.runs, region.Run{Offset: logical * f.block, Length: length * f.block, From: start * f.block})
	}
	return nil
}

// Regions describes the file system.
func (f *FS) Regions(ctx context.Context, add region.Add) error {
	add.Own(0, f.Size(), "a block that no file uses")
	for n := range f.groups() {
		if err := f.groupRegions(n, add); err != nil {
			return err
		}
	}
	add.Own(0, superblockAt, "the space of a boot loader")
	add.Own(superblockAt, 1024, "superblock")
	resize := make([]byte, 4)
	if f.count < 8 {
		return fmt.Errorf("it has %d inodes, without those of the journal and the descriptors: %w", f.count, errFormat)
	}
	add.Own(f.inodeAt(7), f.inodeSize, "inode 7, of the descriptors to grow")
	if _, err := f.r.ReadAt(resize, f.inodeAt(7)+40+13*4); err == nil { // its block of double pointers
		add.Own(int64(le.Uint32(resize))*f.block, f.block, "the pointers of inode 7, of the descriptors to grow")
	}
	add.Own(f.inodeAt(8), f.inodeSize, "inode 8, of the journal")
	if journal, err := f.inode(8, "the journal"); err == nil {
		for _, r := range journal.runs {
			add.Own(r.From, r.Length, "journal")
		}
	}
	return f.Walk(ctx, func(n *File) error {
		add.Own(f.inodeAt(n.Inode), f.inodeSize, "inode %d %s", n.Inode, n.Name)
		for _, at := range n.nodes {
			add.Own(at*f.block, f.block, "a node of the extents of inode %d %s", n.Inode, n.Name)
		}
		if n.attrs != 0 {
			add.Own(n.attrs*f.block, f.block, "the attributes of inode %d %s", n.Inode, n.Name)
		}
		for _, r := range n.runs {
			if n.Content == nil {
				add.Own(r.From, r.Length, "directory, inode %d %s", n.Inode, n.Name)
				continue
			}
			used := min(r.Length, max(n.Size-r.Offset, 0))
			add(r.From, used, func() region.Place {
				return region.Place{Name: fmt.Sprintf("inode %d", n.Inode), File: n.Name, Offset: r.Offset}
			})
			add.Own(r.From+used, r.Length-used, "the unused end of the last block of inode %d %s", n.Inode, n.Name)
		}
		return nil
	})
}

// maxDescribed is how many groups have a region for each descriptor where all have copies.
const maxDescribed = 1 << 10

// groupRegions adds what belongs to a group.
func (f *FS) groupRegions(n int64, add region.Add) error {
	start := f.first + n*f.group
	if size := f.copies(n); size > 0 {
		table := (f.groups()*f.descriptor + f.block - 1) / f.block
		add.Own(start*f.block, f.block, "superblock of group %d", n)
		add.Own((start+1)*f.block, table*f.block, "descriptors of groups in group %d", n)
		add.Own((start+1+table)*f.block, (size-1-table)*f.block, "space for more descriptors in group %d", n)
		for g := range f.groups() {
			if !f.sparse && f.groups() > maxDescribed {
				break // each group has a copy of them all
			}
			add.Own((start+1)*f.block+g*f.descriptor, f.descriptor, "descriptor of group %d in group %d", g, n)
		}
	}
	d := make([]byte, f.descriptor)
	if _, err := f.r.ReadAt(d, (f.first+1)*f.block+n*f.descriptor); err != nil {
		return err
	}
	add.Own(f.pointer(d, 0)*f.block, f.block, "block bitmap of group %d", n)
	add.Own(f.pointer(d, 4)*f.block, f.block, "inode bitmap of group %d", n)
	add.Own(f.tables[n]*f.block, f.inodes*f.block, "an unused inode of group %d", n)
	return nil
}

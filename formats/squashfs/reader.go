package squashfs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"path"
	"time"

	"github.com/pantavisor/pantavisor/formats/region"
	"github.com/pantavisor/pantavisor/formats/tree"
)

// errFormat is wrapped by every error about bytes that are not a squashfs of the kind that
// is read here: version 4.0 with gzip, xz or zstd.
var errFormat = errors.New("not a squashfs that can be read")

// Magic is how an image begins.
const Magic = "hsqs"

// maxTables bounds the memory for the tables of one image, in bytes.
const maxTables = 256 << 20

// Image is an image that is read. The tables are in memory, data is read when it is asked
// for. It is for one goroutine at a time.
type Image struct {
	r         io.ReaderAt
	sb        superblock
	unpack    unpacker
	inodes    *readTable
	dirs      *readTable
	fragments []fragment
	ids       []uint32
	xattrs    *xattrTable
	tables    int64 // bytes of memory for tables

	compared comparedFragments
	tails    map[uint32]int64 // bytes of files' ends in each fragment, by Walk
	fragment int              // which is unpacked
	tail     []byte           // its content
	block    []byte
}

// fragment is a block of the ends of files.
type fragment struct {
	start int64
	size  uint32 // with the flag of a block that is stored
}

// blockStored is the flag in the size of a block that is not compressed.
const blockStored = 1 << 24

// Member is a name in an image.
type Member struct {
	tree.Entry
	// Inode is the number of its inode.
	Inode uint32

	image    *Image
	start    int64
	blocks   blockSizes
	fragment uint32
	offset   uint32
}

// blockSizes are the sizes of a file's blocks, as they are in the table of inodes: a damaged image
// may have many inodes in one place of it.
type blockSizes []byte

func (l blockSizes) len() int { return len(l) / 4 }

func (l blockSizes) at(n int) uint32 { return le.Uint32(l[4*n:]) }

// all ranges over the sizes.
func (l blockSizes) all() iter.Seq2[int, uint32] {
	return func(yield func(int, uint32) bool) {
		for n := range l.len() {
			if !yield(n, l.at(n)) {
				return
			}
		}
	}
}

// Open reads the tables of the image at byte 0 of r.
func Open(r io.ReaderAt) (*Image, error) {
	i := &Image{r: r, fragment: -1}
	if err := binary.Read(io.NewSectionReader(r, 0, superblockSize), le, &i.sb); err != nil {
		return nil, fmt.Errorf("reading the superblock: %w: %w", err, errFormat)
	}
	if err := i.sb.check(); err != nil {
		return nil, fmt.Errorf("reading the superblock: %w", err)
	}
	var err error
	if i.unpack, err = newUnpacker(Compression(i.sb.Compression), int(i.sb.BlockSize)); err != nil {
		return nil, err
	}
	return i, i.open()
}

// check checks the numbers that everything else depends on.
func (s *superblock) check() error {
	switch {
	case s.Magic != magic || s.Major != 4 || s.Minor != 0:
		return fmt.Errorf("it has the magic number %#x and version %d.%d: %w", s.Magic, s.Major, s.Minor, errFormat)
	case s.BlockSize < minBlockSize || s.BlockSize > maxBlockSize || s.BlockSize != 1<<s.BlockLog:
		return fmt.Errorf("its blocks have %d bytes: %w", s.BlockSize, errFormat)
	case s.InodeTable >= s.DirTable || s.DirTable > s.BytesUsed || s.BytesUsed > 1<<50:
		return fmt.Errorf("its tables are not in order: %w", errFormat)
	}
	return nil
}

// open reads all tables.
func (i *Image) open() error {
	var err error
	if i.inodes, err = i.table(int64(i.sb.InodeTable), int64(i.sb.DirTable)); err != nil {
		return fmt.Errorf("reading the inodes: %w", err)
	}
	fragments, from, err := i.indexed(i.sb.FragmentTable, int64(i.sb.FragmentCount)*16)
	if err != nil {
		return fmt.Errorf("reading the list of fragments: %w", err)
	}
	for b := fragments; len(b) >= 16; b = b[16:] {
		i.fragments = append(i.fragments, fragment{int64(le.Uint64(b)), le.Uint32(b[8:])})
	}
	ids, idsFrom, err := i.indexed(i.sb.IDTable, int64(i.sb.IDCount)*4)
	if err != nil {
		return fmt.Errorf("reading the list of owners: %w", err)
	}
	for b := ids; len(b) >= 4; b = b[4:] {
		i.ids = append(i.ids, le.Uint32(b))
	}
	end := idsFrom
	if len(fragments) > 0 {
		end = from
	} else if i.sb.ExportTable != absent {
		if _, from, err = i.indexed(i.sb.ExportTable, 1); err == nil {
			end = from
		}
	}
	if i.dirs, err = i.table(int64(i.sb.DirTable), end); err != nil {
		return fmt.Errorf("reading the directories: %w", err)
	}
	return i.openXattrs()
}

// Compression returns the form of compression of all blocks.
func (i *Image) Compression() Compression { return Compression(i.sb.Compression) }

// BlockSize returns the size of blocks in bytes.
func (i *Image) BlockSize() int { return int(i.sb.BlockSize) }

// Made returns the time in the superblock.
func (i *Image) Made() time.Time { return time.Unix(int64(i.sb.ModTime), 0).UTC() }

// Used returns the length of the image without its padding, in bytes.
func (i *Image) Used() int64 { return int64(i.sb.BytesUsed) }

// Walk calls do for every name, the root first, and names of a directory in their order. The
// Open of an entry reads the content of a regular file, and may be called after Walk; what it returns
// is an [io.ReaderAt] too. Further names of a file are hard links.
func (i *Image) Walk(ctx context.Context, do func(*Member) error) error {
	i.tails = map[uint32]int64{}
	w := &walk{image: i, do: do, names: map[uint32]string{}, open: map[uint64]bool{}}
	return w.directory(ctx, i.sb.RootInode, ".")
}

type walk struct {
	image *Image
	do    func(*Member) error
	names map[uint32]string // first names of files with several, by inode
	open  map[uint64]bool   // directories that have been read
}

// directory reads a directory and what is in it.
func (w *walk) directory(ctx context.Context, ref uint64, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if w.open[ref] {
		return fmt.Errorf("directory %s is in itself or has two names: %w", name, errFormat)
	}
	w.open[ref] = true
	n, err := w.image.inode(ref, name)
	if err != nil {
		return err
	}
	if !n.Mode.IsDir() {
		return fmt.Errorf("%s is not a directory: %w", name, errFormat)
	}
	if err := w.do(&n.Member); err != nil {
		return err
	}
	return w.image.listing(n, func(child string, ref uint64, dir bool) error {
		child = path.Join(name, child)
		if dir {
			return w.directory(ctx, ref, child)
		}
		return w.file(ref, child)
	})
}

// file reads anything but a directory.
func (w *walk) file(ref uint64, name string) error {
	n, err := w.image.inode(ref, name)
	if err != nil {
		return err
	}
	if n.Mode.IsDir() {
		return fmt.Errorf("%s is a directory: %w", name, errFormat)
	}
	if n.links > 1 {
		if first, ok := w.names[n.Inode]; ok {
			n.HardLink = first
		} else {
			w.names[n.Inode] = name
		}
	}
	if n.HardLink == "" && n.fragment != noFragment {
		w.image.tails[n.fragment] += n.tail()
	}
	return w.do(&n.Member)
}

// tail returns how many bytes of the content are in a fragment.
func (f *Member) tail() int64 {
	if f.fragment == noFragment || !f.Mode.IsRegular() {
		return 0
	}
	return max(0, f.Size-int64(f.blocks.len())*int64(f.image.sb.BlockSize))
}

// Stored returns how many bytes of the image the content of a regular file takes: its compressed
// blocks, and of the fragment that has its end the share by which the end is in it. It is known
// when [Image.Walk] is over. Blocks that are shared with another file count for each.
func (f *Member) Stored() int64 {
	stored := int64(0)
	for _, size := range f.blocks.all() {
		stored += int64(size &^ blockStored)
	}
	tail, all := f.tail(), f.image.tails[f.fragment]
	if tail == 0 || int64(f.fragment) >= int64(len(f.image.fragments)) {
		return stored
	}
	packed := int64(f.image.fragments[f.fragment].size &^ blockStored)
	return stored + int64(float64(packed)*float64(tail)/float64(max(all, tail)))
}

// listing calls do for each name in a directory.
func (i *Image) listing(n *readNode, do func(name string, ref uint64, dir bool) error) error {
	if n.dirSize <= dirPadding {
		return nil
	}
	b, err := i.dirs.read(position{n.dirBlock, uint16(n.offset)}, n.dirSize-dirPadding)
	if err != nil {
		return fmt.Errorf("reading directory %s: %w", n.Name, err)
	}
	damaged := fmt.Errorf("the list of directory %s is damaged: %w", n.Name, errFormat)
	for len(b) > 0 {
		if len(b) < dirHeader {
			return damaged
		}
		count, block := int(le.Uint32(b))+1, uint64(le.Uint32(b[4:]))
		b = b[dirHeader:]
		if count > maxRun {
			return damaged
		}
		for range count {
			if len(b) < dirEntry {
				return damaged
			}
			offset, kind, size := le.Uint16(b), le.Uint16(b[4:]), int(le.Uint16(b[6:]))+1
			if len(b) < dirEntry+size {
				return damaged
			}
			name := string(b[dirEntry : dirEntry+size])
			b = b[dirEntry+size:]
			if !validName(name) {
				return fmt.Errorf("directory %s has the name %.300q: %w", n.Name, name, errFormat)
			}
			if err := do(name, block<<16|uint64(offset), kind == typeDir); err != nil {
				return err
			}
		}
	}
	return nil
}

// validName reports whether a name of a directory is one.
func validName(name string) bool {
	return name != "." && name != ".." && tree.CheckName(name) == nil && path.Base(name) == name
}

// SameStored reports whether the contents of two regular files are the same as they are stored,
// which is faster than to unpack both. When it is false they may still be equal.
func (f *Member) SameStored(o *Member) (bool, error) {
	a, b := f.image, o.image
	if a.sb.Compression != b.sb.Compression || a.sb.BlockSize != b.sb.BlockSize || f.Size != o.Size || !bytes.Equal(f.blocks, o.blocks) {
		return false, nil
	}
	length := int64(0)
	for _, size := range f.blocks.all() {
		length += int64(size &^ blockStored)
	}
	same, err := sameBytes(a.r, f.start, b.r, o.start, length)
	if !same || err != nil || f.fragment == noFragment || f.Size == 0 {
		return same && f.fragment == o.fragment, err
	}
	if f.offset == o.offset {
		if same, err := a.sameFragment(f.fragment, b, o.fragment); same || err != nil {
			return same, err
		}
	}
	endA, err := f.end()
	if err != nil {
		return false, err
	}
	endB, err := o.end()
	return bytes.Equal(endA, endB), err
}

// sameFragment reports whether two fragments are the same as they are stored.
func (i *Image) sameFragment(n uint32, o *Image, m uint32) (bool, error) {
	if int64(n) >= int64(len(i.fragments)) || int64(m) >= int64(len(o.fragments)) {
		return false, fmt.Errorf("there is no fragment %d or %d: %w", n, m, errFormat)
	}
	if i.compared.image == o && i.compared.mine == n && i.compared.other == m {
		return i.compared.same, nil
	}
	a, b := i.fragments[n], o.fragments[m]
	same := a.size == b.size
	if same {
		var err error
		if same, err = sameBytes(i.r, a.start, o.r, b.start, int64(a.size&^blockStored)); err != nil {
			return false, err
		}
	}
	i.compared = comparedFragments{o, n, m, same}
	return same, nil
}

// comparedFragments is the last result of sameFragment: files that follow each other share
// fragments.
type comparedFragments struct {
	image       *Image
	mine, other uint32
	same        bool
}

// sameBytes compares parts of two files.
func sameBytes(a io.ReaderAt, atA int64, b io.ReaderAt, atB, length int64) (bool, error) {
	const most = 128 << 10
	bufA, bufB := make([]byte, min(length, most)), make([]byte, min(length, most))
	for done := int64(0); done < length; done += most {
		n := min(length-done, most)
		if _, err := a.ReadAt(bufA[:n], atA+done); err != nil {
			return false, err
		}
		if _, err := b.ReadAt(bufB[:n], atB+done); err != nil {
			return false, err
		}
		if !bytes.Equal(bufA[:n], bufB[:n]) {
			return false, nil
		}
	}
	return true, nil
}

// end returns the part of a file that is in a fragment.
func (f *Member) end() ([]byte, error) {
	if f.fragment == noFragment || f.Size == 0 {
		return nil, nil
	}
	b, err := f.image.unpackFragment(f.fragment)
	if err != nil {
		return nil, err
	}
	length := f.Size - int64(f.blocks.len())*int64(f.image.sb.BlockSize)
	if int64(f.offset)+length > int64(len(b)) || length < 0 {
		return nil, fmt.Errorf("%s: its end is not in fragment %d: %w", f.Name, f.fragment, errFormat)
	}
	return b[f.offset : int64(f.offset)+length], nil
}

// unpackFragment returns the content of a fragment, which is valid until the next one.
func (i *Image) unpackFragment(n uint32) ([]byte, error) {
	if int64(n) >= int64(len(i.fragments)) {
		return nil, fmt.Errorf("there is no fragment %d: %w", n, errFormat)
	}
	if i.fragment == int(n) {
		return i.tail, nil
	}
	f := i.fragments[n]
	i.fragment = -1
	b, err := i.unpackBlock(f.start, f.size)
	if err != nil {
		return nil, fmt.Errorf("reading fragment %d: %w", n, err)
	}
	i.fragment, i.tail = int(n), append(i.tail[:0], b...)
	return i.tail, nil
}

// unpackBlock returns the content of a block of data, which is valid until the next call.
func (i *Image) unpackBlock(at int64, size uint32) ([]byte, error) {
	length := int64(size &^ blockStored)
	if length > int64(i.sb.BlockSize) || at < superblockSize || at+length > int64(i.sb.BytesUsed) {
		return nil, fmt.Errorf("a block of %d bytes at %d: %w", length, at, errFormat)
	}
	packed := make([]byte, length)
	if _, err := i.r.ReadAt(packed, at); err != nil {
		return nil, err
	}
	if size&blockStored != 0 {
		return packed, nil
	}
	var err error
	i.block, err = i.unpack(i.block[:0], packed, int(i.sb.BlockSize))
	return i.block, err
}

// reader reads the content of one file.
type reader struct {
	file *Member
	at   int64 // of the next block
	next int   // its number
	left int64 // bytes of the file that have not been read
	rest []byte
	kept *reader // of the block that ReadAt used last, which is its rest
}

var _ io.ReaderAt = (*reader)(nil)

// Close implements io.Closer.
func (r *reader) Close() error { return nil }

// ReadAt implements io.ReaderAt. It unpacks the blocks in which the bytes are, and keeps the last.
func (r *reader) ReadAt(p []byte, off int64) (done int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("reading %s: offset %d is negative", r.file.Name, off)
	}
	size := int64(r.file.image.sb.BlockSize)
	for done < len(p) {
		if off >= r.file.Size {
			return done, io.EOF
		}
		if err := r.keep(int(off / size)); err != nil {
			return done, fmt.Errorf("reading %s: %w", r.file.Name, err)
		}
		n := copy(p[done:], r.kept.rest[off%size:])
		done, off = done+n, off+int64(n)
	}
	return done, nil
}

// keep unpacks a block, the number of which is that of its offset.
func (r *reader) keep(n int) error {
	if r.kept != nil && r.kept.next == n {
		return nil
	}
	r.kept = nil
	if n > r.file.blocks.len() {
		return fmt.Errorf("its blocks are fewer than its size: %w", errFormat)
	}
	before := int64(n) * int64(r.file.image.sb.BlockSize)
	k := &reader{file: r.file, at: r.file.start, next: n, left: r.file.Size - before}
	for block, size := range r.file.blocks.all() {
		if block == n {
			break
		}
		k.at += int64(size &^ blockStored)
	}
	if err := k.fill(); err != nil {
		return err
	}
	k.next = n
	r.kept = k
	return nil
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	if len(r.rest) == 0 {
		if err := r.fill(); err != nil {
			return 0, fmt.Errorf("reading %s: %w", r.file.Name, err)
		}
	}
	n := copy(p, r.rest)
	r.rest, r.left = r.rest[n:], r.left-int64(n)
	return n, nil
}

// fill unpacks the next block.
func (r *reader) fill() error {
	i := r.file.image
	if r.next == r.file.blocks.len() {
		tail, err := r.file.end()
		if err == nil && int64(len(tail)) != r.left {
			err = fmt.Errorf("its blocks are fewer than its size: %w", errFormat)
		}
		r.rest = append(r.rest[:0], tail...)
		return err
	}
	want := min(r.left, int64(i.sb.BlockSize))
	size := r.file.blocks.at(r.next)
	r.next++
	if size == 0 {
		r.rest = make([]byte, want)
		return nil
	}
	b, err := i.unpackBlock(r.at, size)
	if err != nil {
		return fmt.Errorf("block %d: %w", r.next-1, err)
	}
	if int64(len(b)) != want {
		return fmt.Errorf("block %d has %d bytes instead of %d: %w", r.next-1, len(b), want, errFormat)
	}
	r.at += int64(size &^ blockStored)
	r.rest = append(r.rest[:0], b...)
	return nil
}

// Regions describes the image. The content of files is named by their block.
func (i *Image) Regions(ctx context.Context, add region.Add) error {
	add.Own(0, superblockSize, "superblock")
	i.inodes.regions(add, "inodes")
	i.dirs.regions(add, "directories")
	end := i.dirs.end
	add.Own(end, int64(i.sb.BytesUsed)-end, "tables of fragments, owners and attributes")
	add.Own(int64(i.sb.BytesUsed), 1<<40, "padding")
	for n, f := range i.fragments {
		add.Own(f.start, int64(f.size&^blockStored), "fragment %d", n)
	}
	return i.Walk(ctx, func(f *Member) error {
		at := f.start
		for n, size := range f.blocks.all() {
			length := int64(size &^ blockStored)
			add(at, length, func() region.Place {
				return region.Place{Name: fmt.Sprintf("block %d", n), File: f.Name, Offset: -1}
			})
			at += length
		}
		return ctx.Err()
	})
}

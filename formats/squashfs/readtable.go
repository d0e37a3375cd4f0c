package squashfs

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"

	"github.com/pantavisor/pantavisor/formats/region"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/bounded"
)

// unpacker appends the content of a packed block of at most limit bytes to dst.
type unpacker func(dst, packed []byte, limit int) ([]byte, error)

func newUnpacker(c Compression, block int) (unpacker, error) {
	switch c {
	case Gzip:
		return func(dst, packed []byte, limit int) ([]byte, error) {
			z, err := zlib.NewReader(bytes.NewReader(packed))
			if err != nil {
				return nil, err
			}
			return appendAll(dst, z, limit)
		}, nil
	case XZ:
		return func(dst, packed []byte, limit int) ([]byte, error) {
			x, err := xz.NewReader(bytes.NewReader(packed), uint32(max(block, metadataSize)))
			if err != nil {
				return nil, err
			}
			return appendAll(dst, x, limit)
		}, nil
	case Zstd:
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(max(block, metadataSize))))
		if err != nil {
			return nil, err
		}
		return func(dst, packed []byte, limit int) ([]byte, error) { return d.DecodeAll(packed, dst) }, nil
	}
	return nil, fmt.Errorf("it is packed with %v; gzip, xz and zstd can be read: %w", c, errFormat)
}

// appendAll reads to the end.
func appendAll(dst []byte, r io.Reader, limit int) ([]byte, error) {
	b, err := bounded.ReadSized(r, int64(limit), int64(limit))
	return append(dst, b...), err
}

// readTable is a table of metadata blocks, unpacked.
type readTable struct {
	data   []byte
	blocks map[uint32]int // where the block at an offset of the packed table begins in data
	packed []region.Region
	end    int64
}

// table reads the metadata blocks from one offset to another.
func (i *Image) table(from, to int64) (*readTable, error) {
	t := &readTable{blocks: map[uint32]int{}, end: to}
	for at := from; at < to; {
		b, next, err := i.metadata(at)
		if err != nil {
			return nil, err
		}
		if next > to {
			return nil, fmt.Errorf("the metadata block at %d is longer than its table: %w", at, errFormat)
		}
		if i.tables += int64(len(b)); i.tables > maxTables {
			return nil, fmt.Errorf("its tables have more than %d MiB: %w", maxTables>>20, errFormat)
		}
		t.blocks[uint32(at-from)] = len(t.data)
		t.data = append(t.data, b...)
		t.packed = append(t.packed, region.Region{From: at, To: next})
		at = next
	}
	return t, nil
}

// metadata returns the content of the metadata block at an offset, and where the next one is.
func (i *Image) metadata(at int64) ([]byte, int64, error) {
	var head [2]byte
	if _, err := i.r.ReadAt(head[:], at); err != nil {
		return nil, 0, fmt.Errorf("reading the metadata block at %d: %w", at, err)
	}
	size := le.Uint16(head[:])
	packed := make([]byte, size&^metadataStored)
	if len(packed) > metadataSize || len(packed) == 0 {
		return nil, 0, fmt.Errorf("the metadata block at %d has %d bytes: %w", at, len(packed), errFormat)
	}
	if _, err := i.r.ReadAt(packed, at+2); err != nil {
		return nil, 0, fmt.Errorf("reading the metadata block at %d: %w", at, err)
	}
	next := at + 2 + int64(len(packed))
	if size&metadataStored != 0 {
		return packed, next, nil
	}
	b, err := i.unpack(nil, packed, metadataSize)
	if err != nil {
		return nil, 0, fmt.Errorf("unpacking the metadata block at %d: %w", at, err)
	}
	return b, next, nil
}

// indexed reads a table of size bytes of which the image has a list of the blocks. It returns
// where the first one is.
func (i *Image) indexed(list uint64, size int64) ([]byte, int64, error) {
	if list == absent || size == 0 {
		return nil, int64(i.sb.BytesUsed), nil
	}
	if size > maxTables || list > i.sb.BytesUsed {
		return nil, 0, fmt.Errorf("a table of %d bytes: %w", size, errFormat)
	}
	starts := make([]byte, (size+metadataSize-1)/metadataSize*8)
	if _, err := i.r.ReadAt(starts, int64(list)); err != nil {
		return nil, 0, err
	}
	var out []byte
	for b := starts; len(b) > 0; b = b[8:] {
		if le.Uint64(b) > i.sb.BytesUsed {
			return nil, 0, fmt.Errorf("a table is behind the end: %w", errFormat)
		}
		block, _, err := i.metadata(int64(le.Uint64(b)))
		if err != nil {
			return nil, 0, err
		}
		out = append(out, block...)
	}
	if i.tables += int64(len(out)); int64(len(out)) < size || i.tables > maxTables {
		return nil, 0, fmt.Errorf("a table has %d bytes instead of %d: %w", len(out), size, errFormat)
	}
	return out[:size], int64(le.Uint64(starts)), nil
}

// read returns size bytes from a position on.
func (t *readTable) read(p position, size int64) ([]byte, error) {
	start, ok := t.blocks[p.block]
	at := int64(start) + int64(p.offset)
	if !ok || size < 0 || at+size > int64(len(t.data)) {
		return nil, fmt.Errorf("%d bytes at %d of block %d are not in the table: %w", size, p.offset, p.block, errFormat)
	}
	return t.data[at : at+size], nil
}

// from returns everything from a position on.
func (t *readTable) from(p position) ([]byte, error) {
	start, ok := t.blocks[p.block]
	if at := start + int(p.offset); ok && at < len(t.data) {
		return t.data[at:], nil
	}
	return nil, fmt.Errorf("there is nothing at %d of block %d of the table: %w", p.offset, p.block, errFormat)
}

func (t *readTable) regions(add region.Add, what string) {
	for n, r := range t.packed {
		add.Own(r.From, r.To-r.From, "metadata block %d of the %s", n, what)
	}
}

// readNode is an inode as it is read.
type readNode struct {
	Member
	links    uint32
	dirBlock uint32
	dirSize  int64
}

// fields reads numbers one after the other; behind the end they are 0, and short is set.
type fields struct {
	b     []byte
	short bool
}

func (f *fields) take(n int64) []byte {
	if n > int64(len(f.b)) || n < 0 {
		f.short = true
		return make([]byte, 8)
	}
	b := f.b[:n]
	f.b = f.b[n:]
	return b
}

func (f *fields) u16() uint16 { return le.Uint16(f.take(2)) }
func (f *fields) u32() uint32 { return le.Uint32(f.take(4)) }
func (f *fields) u64() uint64 { return le.Uint64(f.take(8)) }

// modes are the type bits of the types of inodes.
var modes = map[uint16]fs.FileMode{
	typeDir: fs.ModeDir, typeFile: 0, typeSymlink: fs.ModeSymlink, typeBlock: fs.ModeDevice,
	typeChar: fs.ModeDevice | fs.ModeCharDevice, typeFifo: fs.ModeNamedPipe, typeSocket: fs.ModeSocket,
}

// inode reads the inode that a directory refers to.
func (i *Image) inode(ref uint64, name string) (*readNode, error) {
	b, err := i.inodes.from(position{uint32(ref >> 16), uint16(ref)})
	if err != nil {
		return nil, fmt.Errorf("reading the inode of %s: %w", name, err)
	}
	f := &fields{b: b}
	kind, perm, uid, gid, mtime, number := f.u16(), f.u16(), f.u16(), f.u16(), f.u32(), f.u32()
	extended := kind > extendedType
	if extended {
		kind -= extendedType
	}
	mode, ok := modes[kind]
	if !ok || int(uid) >= len(i.ids) || int(gid) >= len(i.ids) {
		return nil, fmt.Errorf("the inode of %s has type %d and owners %d:%d: %w", name, kind, uid, gid, errFormat)
	}
	n := &readNode{Member: Member{image: i, Inode: number, fragment: noFragment}, links: 1}
	n.Entry = tree.Entry{
		Name: name, Mode: tree.FileMode(uint32(perm)&0o7777)&^fs.ModeType | mode,
		UID: i.ids[uid], GID: i.ids[gid], ModTime: time.Unix(int64(mtime), 0).UTC(),
	}
	xattr := noXattr
	switch kind {
	case typeDir:
		xattr = n.directory(f, extended)
	case typeFile:
		xattr = n.file(f, extended)
	case typeSymlink:
		n.links = f.u32()
		n.Link = string(f.take(int64(f.u32())))
	case typeBlock, typeChar:
		n.links = f.u32()
		d := f.u32()
		n.Major, n.Minor = d>>8&0xfff, d&0xff|d>>12&^0xff
	default:
		n.links = f.u32()
	}
	if extended && kind != typeDir && kind != typeFile {
		xattr = f.u32()
	}
	if f.short {
		return nil, fmt.Errorf("the inode of %s is cut short: %w", name, errFormat)
	}
	n.Xattrs, err = i.xattrs.set(xattr)
	return n, err
}

// directory reads what a directory's inode has.
func (n *readNode) directory(f *fields, extended bool) (xattr uint32) {
	if !extended {
		n.dirBlock, n.links, n.dirSize, n.offset = f.u32(), f.u32(), int64(f.u16()), uint32(f.u16())
		return noXattr
	}
	n.links, n.dirSize, n.dirBlock = f.u32(), int64(f.u32()), f.u32()
	f.take(4 + 2) // the parent and the number of indexes
	n.offset = uint32(f.u16())
	return f.u32()
}

// file reads what a regular file's inode has.
func (n *readNode) file(f *fields, extended bool) (xattr uint32) {
	xattr = noXattr
	if extended {
		n.start, n.Size = int64(f.u64()), int64(f.u64())
		f.take(8) // how much of it is holes
		n.links, n.fragment, n.offset, xattr = f.u32(), f.u32(), f.u32(), f.u32()
	} else {
		n.start, n.fragment, n.offset, n.Size = int64(f.u32()), f.u32(), f.u32(), int64(f.u32())
	}
	block := int64(n.image.sb.BlockSize)
	if n.Size < 0 || n.Size > 1<<50 {
		f.short = true
		return xattr
	}
	count := n.Size / block
	if n.fragment == noFragment {
		count = (n.Size + block - 1) / block
	}
	if b := f.take(4 * count); !f.short {
		n.blocks = b
	}
	file := &n.Member
	n.Open = func() (io.ReadCloser, error) {
		return &reader{file: file, at: file.start, left: file.Size}, nil
	}
	return xattr
}

// xattrTable has all sets of attributes.
type xattrTable struct {
	values *readTable
	sets   []byte
}

// xattrSet is the size of what the table has for a set.
const xattrSet = 16

// openXattrs reads the tables of attributes.
func (i *Image) openXattrs() error {
	if i.sb.XattrTable == absent {
		return nil
	}
	var head [16]byte
	if _, err := i.r.ReadAt(head[:], int64(min(i.sb.XattrTable, i.sb.BytesUsed))); err != nil {
		return fmt.Errorf("reading the attributes: %w", err)
	}
	sets, end, err := i.indexed(i.sb.XattrTable+16, int64(le.Uint32(head[8:]))*xattrSet)
	if err == nil {
		i.xattrs = &xattrTable{sets: sets}
		i.xattrs.values, err = i.table(int64(min(le.Uint64(head[:]), i.sb.BytesUsed)), end)
	}
	if err != nil {
		return fmt.Errorf("reading the attributes: %w", err)
	}
	return nil
}

// xattrOutside is the flag of a value that is a reference to one of another set.
const xattrOutside = 0x100

// set returns the attributes of a set.
func (x *xattrTable) set(n uint32) (map[string][]byte, error) {
	if n == noXattr {
		return nil, nil
	}
	damaged := fmt.Errorf("there are no attributes with the number %d: %w", n, errFormat)
	if x == nil || (int64(n)+1)*xattrSet > int64(len(x.sets)) {
		return nil, damaged
	}
	entry := x.sets[int64(n)*xattrSet:]
	ref, count := le.Uint64(entry), le.Uint32(entry[8:])
	b, err := x.values.from(position{uint32(ref >> 16), uint16(ref)})
	if err != nil {
		return nil, err
	}
	out, f := map[string][]byte{}, &fields{b: b}
	for range count {
		kind, size := f.u16(), f.u16()
		name := string(f.take(int64(size)))
		value := f.take(int64(f.u32()))
		space := int(kind &^ xattrOutside)
		if f.short || space >= len(xattrSpaces) {
			return nil, damaged
		}
		if kind&xattrOutside != 0 {
			if value, err = x.outside(value); err != nil {
				return nil, err
			}
		}
		out[xattrSpaces[space]+name] = bytes.Clone(value)
	}
	return out, nil
}

// outside returns the value that another set has.
func (x *xattrTable) outside(ref []byte) ([]byte, error) {
	if len(ref) != 8 {
		return nil, fmt.Errorf("a reference to an attribute has %d bytes: %w", len(ref), errFormat)
	}
	b, err := x.values.from(position{uint32(le.Uint64(ref) >> 16), uint16(le.Uint64(ref))})
	if err != nil {
		return nil, err
	}
	f := &fields{b: b}
	value := f.take(int64(f.u32()))
	if f.short {
		return nil, fmt.Errorf("an attribute is cut short: %w", errFormat)
	}
	return value, nil
}

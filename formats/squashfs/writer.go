package squashfs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/bits"
	"path"
	"strings"
	"time"
)

// Writer makes one image. Use it from one goroutine: Add entries, then Close.
type Writer struct {
	file File
	opts Options
	data *pipeline
	comp compressor // for metadata
	end  int64      // of what has been written, once the data is complete

	root       *node
	ids        map[uint32]uint16
	idList     []byte
	xattrs     xattrs
	inodes     uint32
	exports    []uint64
	inodeTable *table
	dirTable   *table
	err        error
}

// NewWriter begins an image at byte 0 of file.
func NewWriter(file File, opts Options) (*Writer, error) {
	opts, err := opts.checked()
	if err != nil {
		return nil, fmt.Errorf("starting a squashfs: %w", err)
	}
	comp, err := newCompressor(opts)
	if err != nil {
		return nil, fmt.Errorf("starting a squashfs: %w", err)
	}
	w := &Writer{
		file: file, opts: opts, comp: comp, end: superblockSize,
		ids:        map[uint32]uint16{},
		xattrs:     xattrs{table: table{comp: comp}, known: map[string]uint32{}},
		inodeTable: &table{comp: comp},
		dirTable:   &table{comp: comp},
	}
	w.root = &node{typ: typeDir, perm: 0o755, xattr: noXattr, children: map[string]*node{}, mtime: w.seconds(time.Unix(0, 0))}
	if options := compressorOptions(opts); options != nil {
		block := le.AppendUint16(nil, uint16(len(options))|metadataStored)
		if err := w.append(append(block, options...)); err != nil {
			return nil, err
		}
	}
	w.data, err = newPipeline(file, opts, w.end)
	return w, err
}

// Add puts one entry into the image. Folders above it that were not added get
// mode 0755 and belong to root. An entry that exists already is an error, except
// that a folder may be added after what is in it. After an error the Writer takes
// nothing more; Close still has to be called and returns the error.
func (w *Writer) Add(ctx context.Context, e Entry) error {
	if w.err != nil {
		return w.err
	}
	if err := w.add(ctx, e); err != nil {
		w.err = fmt.Errorf("adding %q: %w", e.Path, err)
	}
	return w.err
}

func (w *Writer) add(ctx context.Context, e Entry) error {
	if !fs.ValidPath(e.Path) || strings.ContainsRune(e.Path, 0) {
		return errors.New("want a clean relative path, without parent folders")
	}
	if e.Mode.IsRegular() && e.Open == nil {
		return w.hardLink(e)
	}
	n, err := w.newNode(e)
	if err != nil {
		return err
	}
	if err := w.attach(e.Path, n); err != nil {
		return err
	}
	if n.typ == typeFile {
		n.data, err = w.read(ctx, e)
	}
	return err
}

func (w *Writer) read(ctx context.Context, e Entry) (*content, error) {
	r, err := e.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return w.data.add(ctx, r)
}

func (w *Writer) newNode(e Entry) (*node, error) {
	typ, err := nodeType(e.Mode)
	if err != nil {
		return nil, err
	}
	n := &node{typ: typ, perm: permissions(e.Mode), mtime: w.seconds(e.ModTime), links: 1}
	if !w.opts.AllRoot {
		if n.uid, err = w.id(e.UID); err != nil {
			return nil, err
		}
		if n.gid, err = w.id(e.GID); err != nil {
			return nil, err
		}
	} else if _, err = w.id(0); err != nil {
		return nil, err
	}
	if n.xattr, err = w.xattrs.add(e.Xattrs); err != nil {
		return nil, err
	}
	return n, n.describe(e)
}

// describe fills in what is particular to a type.
func (n *node) describe(e Entry) error {
	switch n.typ {
	case typeDir:
		n.children = map[string]*node{}
	case typeSymlink:
		if e.Link == "" || len(e.Link) > math.MaxUint16 {
			return fmt.Errorf("symbolic link with a target of %d bytes: want 1 to 65535", len(e.Link))
		}
		n.link = e.Link
	case typeBlock, typeChar:
		if e.Major > 0xfff || e.Minor > 0xfffff {
			return fmt.Errorf("device %d:%d: out of the kernel's range", e.Major, e.Minor)
		}
		n.device = deviceNumber(e.Major, e.Minor)
	}
	return nil
}

func (w *Writer) seconds(t time.Time) uint32 {
	if !w.opts.Time.IsZero() {
		t = w.opts.Time
	}
	return uint32(min(max(t.Unix(), 0), math.MaxUint32))
}

func (w *Writer) id(v uint32) (uint16, error) {
	if i, ok := w.ids[v]; ok {
		return i, nil
	}
	if len(w.ids) > math.MaxUint16 {
		return 0, errors.New("more than 65536 different owners")
	}
	i := uint16(len(w.ids))
	w.ids[v] = i
	w.idList = le.AppendUint32(w.idList, v)
	return i, nil
}

func (w *Writer) hardLink(e Entry) error {
	if !fs.ValidPath(e.Link) {
		return fmt.Errorf("hard link to %q: want a clean relative path", e.Link)
	}
	target := w.find(e.Link)
	if target == nil || target.typ == typeDir {
		return fmt.Errorf("hard link to %q, which is no file added before", e.Link)
	}
	if err := w.attach(e.Path, target); err != nil {
		return err
	}
	target.links++
	return nil
}

func (w *Writer) find(p string) *node {
	n := w.root
	for _, name := range strings.Split(p, "/") {
		if n = n.children[name]; n == nil {
			return nil
		}
	}
	return n
}

const maxName = 256 // SQUASHFS_NAME_LEN

// attach gives a node its name.
func (w *Writer) attach(p string, n *node) error {
	if p == "." {
		return w.replaceDir(w.root, n)
	}
	dir := w.root
	for _, name := range strings.Split(path.Dir(p), "/") {
		if name == "." {
			break
		}
		next := dir.children[name]
		if next == nil {
			next = &node{typ: typeDir, perm: 0o755, xattr: noXattr, mtime: w.seconds(time.Unix(0, 0)), children: map[string]*node{}, parent: dir}
			if len(name) > maxName {
				return fmt.Errorf("name of %d bytes: squashfs takes %d", len(name), maxName)
			}
			dir.children[name] = next
		}
		if next.typ != typeDir {
			return fmt.Errorf("%q above it is no folder", name)
		}
		dir = next
	}
	name := path.Base(p)
	if len(name) > maxName {
		return fmt.Errorf("name of %d bytes: squashfs takes %d", len(name), maxName)
	}
	if old := dir.children[name]; old != nil {
		return w.replaceDir(old, n)
	}
	dir.children[name] = n
	if n.typ == typeDir {
		n.parent = dir
	}
	return nil
}

// replaceDir lets a folder that was made for what is in it get its own attributes.
func (w *Writer) replaceDir(old, n *node) error {
	if old.typ != typeDir || n.typ != typeDir || old.links != 0 {
		return errors.New("it is there already")
	}
	old.perm, old.uid, old.gid, old.mtime, old.xattr, old.links = n.perm, n.uid, n.gid, n.mtime, n.xattr, n.links
	return nil
}

// Close writes all tables and the superblock. The image is complete only when it
// returns nil.
func (w *Writer) Close() error {
	err := w.data.finish()
	if w.err != nil {
		return w.err
	}
	if err != nil {
		return fmt.Errorf("writing a squashfs: %w", err)
	}
	w.end = w.data.pos
	if err := w.finish(); err != nil {
		return fmt.Errorf("writing a squashfs: %w", err)
	}
	return nil
}

func (w *Writer) finish() error {
	if _, err := w.id(0); err != nil { // folders nobody added belong to root
		return err
	}
	w.rootOwnImplicit(w.root)
	w.number(w.root)
	w.exports = make([]uint64, w.inodes)
	w.writeDir(w.root)
	sb := superblock{
		Magic: magic, InodeCount: w.inodes, ModTime: w.root.mtime,
		BlockSize: uint32(w.opts.BlockSize), BlockLog: uint16(bits.TrailingZeros(uint(w.opts.BlockSize))),
		FragmentCount: uint32(len(w.data.fragments)), Compression: uint16(w.opts.Compression),
		Flags: w.flags(), IDCount: uint16(len(w.ids)), Major: 4,
		RootInode: w.root.at.ref(),
	}
	if err := w.putTables(&sb); err != nil {
		return err
	}
	sb.BytesUsed = uint64(w.end)
	if err := w.file.Truncate((w.end + padding - 1) / padding * padding); err != nil {
		return fmt.Errorf("setting the size: %w", err)
	}
	head := make([]byte, superblockSize)
	if _, err := binary.Encode(head, le, sb); err != nil {
		return err
	}
	_, err := w.file.WriteAt(head, 0)
	return err
}

// rootOwnImplicit gives the folders that nobody added to root.
func (w *Writer) rootOwnImplicit(n *node) {
	if n.links == 0 {
		n.uid, n.gid = w.ids[0], w.ids[0]
	}
	for _, c := range n.children {
		if c.typ == typeDir {
			w.rootOwnImplicit(c)
		}
	}
}

func (w *Writer) flags() uint16 {
	f := uint16(flagExportable)
	if w.data.dups {
		f |= flagDuplicates
	}
	if w.xattrs.count == 0 {
		f |= flagNoXattrs
	}
	if compressorOptions(w.opts) != nil {
		f |= flagCompressorOptions
	}
	return f
}

// putTables writes everything behind the data, in the order mksquashfs does.
func (w *Writer) putTables(sb *superblock) (err error) {
	if sb.InodeTable, err = w.put(w.inodeTable); err != nil {
		return err
	}
	if sb.DirTable, err = w.put(w.dirTable); err != nil {
		return err
	}
	var fragments, exports []byte
	for _, f := range w.data.fragments {
		fragments = le.AppendUint64(fragments, uint64(f.start))
		fragments = le.AppendUint64(fragments, uint64(f.size)) // size and an unused word
	}
	sb.FragmentTable = absent
	if len(fragments) > 0 {
		if sb.FragmentTable, err = w.putIndexed(fragments); err != nil {
			return err
		}
	}
	for _, ref := range w.exports {
		exports = le.AppendUint64(exports, ref)
	}
	if sb.ExportTable, err = w.putIndexed(exports); err != nil {
		return err
	}
	if sb.IDTable, err = w.putIndexed(w.idList); err != nil {
		return err
	}
	sb.XattrTable, err = w.putXattrs()
	return err
}

var _ io.Closer = (*Writer)(nil)

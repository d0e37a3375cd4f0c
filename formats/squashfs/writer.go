package squashfs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"path"
	"strings"

	"github.com/pantavisor/pantavisor/formats/tree"
)

// Memory is about what a [Writer] needs on two cores, in bytes.
const Memory = 24 << 20

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
	w.root = &node{typ: typeDir, perm: 0o755, xattr: noXattr, children: map[string]*node{}}
	if options := compressorOptions(opts); options != nil {
		block := le.AppendUint16(nil, uint16(len(options))|metadataStored)
		if err := w.append(append(block, options...)); err != nil {
			return nil, err
		}
	}
	w.data, err = newPipeline(file, opts, w.end)
	return w, err
}

// Write makes one image of the entries that each hands to add, as [Writer.Add] takes
// them.
func Write(ctx context.Context, file File, opts Options, each func(add func(tree.Entry) error) error) error {
	w, err := NewWriter(file, opts)
	if err != nil {
		return err
	}
	err = each(func(e tree.Entry) error { return w.Add(ctx, e) })
	closed := w.Close()
	if err != nil { // Close repeats an error of Add
		return err
	}
	return closed
}

// Add puts one entry into the image. Directories above it that were not added get
// mode 0755, belong to root and are of 1970. An entry that exists already is an
// error, except that a directory may be added after what is in it. All of a file's
// content is read, whatever its size was. After an error the Writer takes nothing
// more; Close still has to be called and returns the error.
func (w *Writer) Add(ctx context.Context, e tree.Entry) error {
	if w.err != nil {
		return w.err
	}
	if err := w.add(ctx, &e); err != nil {
		w.err = fmt.Errorf("adding %.200q: %w", e.Name, err)
	}
	return w.err
}

// Seal closes the fragment block: files that are added later share none with those before. What images have
// in common has the same blocks then, whatever else they have, for [Options.Cache].
func (w *Writer) Seal() {
	if w.err == nil {
		w.data.order <- item{seal: true}
	}
}

func (w *Writer) add(ctx context.Context, e *tree.Entry) error {
	if err := limits.Check(e); err != nil {
		return err
	}
	if e.HardLink != "" {
		return w.hardLink(e)
	}
	n, err := w.newNode(e)
	if err != nil {
		return err
	}
	if err := w.attach(e.Name, n); err != nil {
		return err
	}
	if n.typ == typeFile {
		n.data, err = w.read(ctx, e)
	}
	return err
}

func (w *Writer) read(ctx context.Context, e *tree.Entry) (*content, error) {
	if e.Open == nil {
		return w.data.add(ctx, strings.NewReader(""))
	}
	r, err := e.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return w.data.add(ctx, r)
}

func (w *Writer) newNode(e *tree.Entry) (*node, error) {
	n := &node{typ: nodeType(e.Mode), perm: uint16(tree.StatMode(e.Mode) & 0o7777), mtime: tree.Seconds(e.ModTime), links: 1}
	var err error
	if n.uid, err = w.id(e.UID); err != nil {
		return nil, err
	}
	if n.gid, err = w.id(e.GID); err != nil {
		return nil, err
	}
	if n.xattr, err = w.xattrs.add(e.Xattrs); err != nil {
		return nil, err
	}
	switch n.typ {
	case typeDir:
		n.children = map[string]*node{}
	case typeSymlink:
		n.link = e.Link
	case typeBlock, typeChar:
		n.device = deviceNumber(e.Major, e.Minor)
	}
	return n, nil
}

// maxIDs is the number of different owners and groups that an image may have: the
// superblock counts them in 16 bits.
const maxIDs = math.MaxUint16

func (w *Writer) id(v uint32) (uint16, error) {
	if i, ok := w.ids[v]; ok {
		return i, nil
	}
	if len(w.ids) >= maxIDs {
		return 0, fmt.Errorf("more than %d different owners", maxIDs)
	}
	i := uint16(len(w.ids))
	w.ids[v] = i
	w.idList = le.AppendUint32(w.idList, v)
	return i, nil
}

func (w *Writer) hardLink(e *tree.Entry) error {
	target := w.find(e.HardLink)
	if target == nil || target.typ == typeDir {
		return fmt.Errorf("hard link to %.200q, which is not a file added before", e.HardLink)
	}
	if err := w.attach(e.Name, target); err != nil {
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
			next = &node{typ: typeDir, perm: 0o755, xattr: noXattr, children: map[string]*node{}, parent: dir}
			if len(name) > limits.Name {
				return fmt.Errorf("name of %d bytes: squashfs takes %d", len(name), limits.Name)
			}
			dir.children[name] = next
		}
		if next.typ != typeDir {
			return fmt.Errorf("%q above it is not a directory", name)
		}
		dir = next
	}
	name := path.Base(p)
	if old := dir.children[name]; old != nil {
		return w.replaceDir(old, n)
	}
	dir.children[strings.Clone(name)] = n // not a part of the whole path
	if n.typ == typeDir {
		n.parent = dir
	}
	return nil
}

// replaceDir lets a directory that was made for what is in it get its own attributes.
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
	if err := w.rootOwnImplicit(w.root); err != nil {
		return err
	}
	w.number(w.root)
	w.exports = make([]uint64, w.inodes)
	if err := w.writeDir(w.root); err != nil {
		return err
	}
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

// rootOwnImplicit gives the directories that nobody added to root.
func (w *Writer) rootOwnImplicit(n *node) error {
	if n.links == 0 {
		root, err := w.id(0)
		if err != nil {
			return err
		}
		n.uid, n.gid = root, root
	}
	for _, c := range n.children {
		if c.typ != typeDir {
			continue
		}
		if err := w.rootOwnImplicit(c); err != nil {
			return err
		}
	}
	return nil
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

package inspect

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/formats/cpio"
	"github.com/pantavisor/pantavisor/formats/ext4"
	"github.com/pantavisor/pantavisor/formats/fat"
	"github.com/pantavisor/pantavisor/formats/partition"
	"github.com/pantavisor/pantavisor/formats/region"
	"github.com/pantavisor/pantavisor/formats/squashfs"
	"github.com/pantavisor/pantavisor/formats/tarball"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/formats/ubi"
	"github.com/pantavisor/pantavisor/formats/ubifs"
	"github.com/pantavisor/pantavisor/formats/xz4"
	"github.com/pantavisor/pantavisor/internal/decompress"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/scratch"
)

// format is a format that is looked into.
type format struct {
	name string
	// is reports by the first bytes, up to headSize, whether a content of a size has it.
	is   func(head []byte, size int64) bool
	open func(r *Reader, ctx context.Context, c *Content) (*Inside, error)
}

// headSize is how much of a content is looked at to know its format.
const headSize = 4 << 10

// formats are looked for in this order: a file system begins with what may be taken for a
// master boot record. It is set by init because they contain each other.
var formats []format

func init() {
	formats = []format{
		{"gzip", magic(0, "\x1f\x8b\x08"), packed("gzip")},
		{"xz", magic(0, "\xfd7zXZ\x00"), packed("xz")},
		{"zstd", magic(0, "\x28\xb5\x2f\xfd"), packed("zstd")},
		{"bzip2", magic(0, "BZh"), packed("bzip2")},
		{"squashfs", magic(0, squashfs.Magic), openSquashfs},
		{"ubi", magic(0, ubi.Magic), openUBI},
		{"ubifs", magic(0, ubifs.Magic), openUBIFS},
		{"cpio", magic(0, "070701"), openCpio},
		{"tar", magic(257, "ustar"), openTar},
		{"verity", magic(0, "verity\x00\x00"), openVerity},
		{"device tree", magic(0, "\xd0\x0d\xfe\xed"), openTree},
		{"UKI", isPE, openPE},
		{"FIT slot", magic(0, "fit_rev="), openSlot},
		{"uImage", magic(0, "\x27\x05\x19\x56"), openUImage},
		{"ext4", magic(1080, "\x53\xef"), openExt4},
		{"fat", isFAT, openFAT},
		{"disk", isDisk, openDisk},
	}
}

// magic returns the check for a text at an offset.
func magic(at int, text string) func([]byte, int64) bool {
	return func(head []byte, _ int64) bool {
		return len(head) >= at+len(text) && string(head[at:at+len(text)]) == text
	}
}

func isFAT(head []byte, _ int64) bool {
	return len(head) >= 512 && (string(head[54:57]) == "FAT" || string(head[82:85]) == "FAT") && head[510] == 0x55
}

// isPE tells a program of UEFI from a master boot record that begins with the same letters.
func isPE(head []byte, size int64) bool {
	if len(head) < 64 || string(head[:2]) != "MZ" {
		return false
	}
	at := int64(binary.LittleEndian.Uint32(head[60:]))
	return at+4 <= int64(len(head)) && at > 0 && string(head[at:at+4]) == "PE\x00\x00" && at < size
}

func isDisk(head []byte, size int64) bool {
	if len(head) < 1024 || size < 1<<20 {
		return false
	}
	return head[510] == 0x55 && head[511] == 0xAA || string(head[512:520]) == "EFI PART"
}

// formatOf returns the format of a content, nil for one that is not known.
func formatOf(c *Content) (*format, error) {
	if c == nil || c.Open == nil || c.Size == 0 {
		return nil, nil
	}
	in, err := c.Open()
	if err != nil {
		return nil, err
	}
	head := make([]byte, min(headSize, c.Size))
	n, err := io.ReadFull(in, head)
	if err = errors.Join(err, in.Close()); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	for i := range formats {
		if formats[i].is(head[:n], c.Size) {
			return &formats[i], nil
		}
	}
	return nil, nil
}

// Inside looks into a content. The result is nil when its format is not known.
func (r *Reader) Inside(ctx context.Context, c *Content) (*Inside, error) {
	f, err := formatOf(c)
	if err != nil || f == nil {
		return nil, err
	}
	if most := cmp.Or(r.most, maxInsides); r.insides >= most {
		return &Inside{Form: f.name}, fault.New(fault.BadInput, "it is not looked into: %d archives and file systems were", most)
	}
	r.insides++
	if c.At == nil {
		if c, err = r.spool(ctx, c.Open); err != nil {
			return &Inside{Form: f.name}, err
		}
	}
	in, err := f.open(r, ctx, c)
	switch {
	case in == nil && err == nil: // it only looked so
		return nil, nil
	case in == nil:
		in = &Inside{Form: f.name}
	}
	if err != nil {
		if errors.Is(err, errNames) {
			in.regions = nil // which would collect these names once more
		}
		return in, fault.Wrap(fault.BadInput, err, "reading %s", f.name)
	}
	slices.SortStableFunc(in.Nodes, func(a, b *Node) int { return strings.Compare(a.Name, b.Name) })
	return in, nil
}

// Bounds of what damaged or hostile images make us do: a file in a file system may have the file
// system itself as its content, and many names may share their place.
const (
	maxInsides = 1 << 17   // contents that are looked into
	maxNested  = 32        // contents in each other
	maxNames   = 512 << 20 // bytes of the names in one file system or archive
	perName    = 256       // of those, what each has besides its text
)

// errNames is the error of a file system or archive whose names need too much memory.
var errNames = errors.New("its names need too much memory")

// names counts the memory for the names in one file system or archive, in bytes.
type names struct{ used, most int64 }

// counting returns what counts the names of one more file system or archive.
func (r *Reader) counting() names { return names{most: cmp.Or(r.mostNames, maxNames)} }

// add counts an entry.
func (n *names) add(e *tree.Entry) error {
	size := perName + len(e.Name) + len(e.Link)
	for name, value := range e.Xattrs {
		size += perName + len(name) + 4*len(value) // quoted
	}
	if n.used += int64(size); n.used > n.most {
		return fault.New(fault.BadInput, "%w: more than %d MiB", errNames, n.most>>20)
	}
	return nil
}

// maxSpool bounds what is unpacked from one file, in bytes.
const maxSpool = 1 << 40

// spool reads a stream into a file without a name. Blocks of zeros become holes.
func (r *Reader) spool(ctx context.Context, open func() (io.ReadCloser, error)) (*Content, error) {
	in, err := open()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	f, err := scratch.Unnamed("", "pv-inspect-")
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "creating a temporary file")
	}
	r.open = append(r.open, f)
	size, err := copySparse(ctx, f, in)
	if err == nil {
		err = f.Truncate(size)
	}
	if err != nil {
		return nil, err
	}
	return fileContent(f)
}

// copySparse copies a stream and leaves out blocks of zeros.
func copySparse(ctx context.Context, f io.WriterAt, in io.Reader) (size int64, err error) {
	const block = 64 << 10
	buf, zeros := make([]byte, block), make([]byte, block)
	for {
		if err := ctx.Err(); err != nil {
			return size, err
		}
		n, err := io.ReadFull(in, buf)
		if n > 0 && !bytes.Equal(buf[:n], zeros[:n]) {
			if _, err := f.WriteAt(buf[:n], size); err != nil {
				return size, fault.Wrap(fault.IO, err, "writing a temporary file")
			}
		}
		size += int64(n)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return size, nil
		case err != nil:
			return size, err
		case size > maxSpool:
			return size, fault.New(fault.BadInput, "it has more than %d GiB when it is unpacked", maxSpool>>30)
		}
	}
}

// packed returns what opens compressed content.
func packed(form string) func(r *Reader, ctx context.Context, c *Content) (*Inside, error) {
	return func(r *Reader, ctx context.Context, c *Content) (*Inside, error) {
		in := &Inside{Form: form, regions: func(_ context.Context, add region.Add) error { return packedRegions(form, c, add) }}
		content, err := r.spool(ctx, func() (io.ReadCloser, error) {
			return decompress.Reader(io.NewSectionReader(c.At, 0, c.Size))
		})
		if err != nil {
			return in, err
		}
		if form == "xz" { // one that cannot be read has none
			content.blocks, _ = xz4.Blocks(xz4.Input{ReaderAt: c.At, Size: c.Size})
		}
		in.Nodes = []*Node{{Name: unpacked, Content: content}}
		return in, nil
	}
}

// unpacked is the name of what is in compressed content.
const unpacked = "content"

// packedRegions describes a compressed stream.
func packedRegions(form string, c *Content, add region.Add) error {
	add.Own(0, c.Size, "%s stream", form)
	if form != "xz" {
		return nil
	}
	blocks, err := xz4.Blocks(xz4.Input{ReaderAt: c.At, Size: c.Size})
	if err != nil {
		return err
	}
	at := int64(12)
	add.Own(0, at, "xz stream header")
	for n, b := range blocks {
		length := int64(b.Unpadded+3) &^ 3
		add.Own(at, length, "xz block %d", n)
		at += length
	}
	add.Own(at, c.Size-at-12, "xz index")
	add.Own(c.Size-12, 12, "xz stream footer")
	return nil
}

func openSquashfs(r *Reader, ctx context.Context, c *Content) (*Inside, error) {
	image, err := squashfs.Open(c.At)
	if err != nil {
		return nil, err
	}
	in := &Inside{regions: image.Regions, Form: "squashfs", Attributes: []Attribute{
		{Name: "compression", Value: image.Compression().String()}, {Name: "block size", Value: fmt.Sprint(image.BlockSize())},
		{Name: "made", Value: image.Made().Format("2006-01-02T15:04:05Z")},
	}}
	id := r.identity()
	count := r.counting()
	err = image.Walk(ctx, func(m *squashfs.Member) error {
		if err := count.add(&m.Entry); err != nil {
			return err
		}
		n := &Node{Name: m.Name, Attributes: attributes(&m.Entry)}
		if m.Open != nil {
			n.Content = &Content{Size: m.Size, Open: m.Open, member: m, ID: id(m.Inode)}
		}
		in.Nodes = append(in.Nodes, n)
		return nil
	})
	return in, err
}

func openExt4(r *Reader, ctx context.Context, c *Content) (*Inside, error) {
	f, err := ext4.Open(c.At)
	if err != nil {
		return nil, err
	}
	features := f.Features()
	in := &Inside{regions: f.Regions, Form: "ext4", Attributes: []Attribute{
		{Name: "label", Value: f.Label()}, {Name: "UUID", Value: f.UUID(), Derived: true},
		{Name: "size", Value: fmt.Sprint(f.Size())}, {Name: "block size", Value: fmt.Sprint(f.BlockSize())},
		{Name: "features", Value: fmt.Sprintf("%#x %#x %#x", features[0], features[1], features[2])},
	}}
	files := storageFiles{count: r.counting()}
	err = f.Walk(ctx, func(n *ext4.File) error { return files.add(storageFile{&n.Entry, n.Content, n.Inode}) })
	in.Nodes = storageNodes(files.list, c.mappedIn, r.identity())
	return in, err
}

// objectsDir is where the storage has objects; the trails have links to them.
const objectsDir = "objects/"

// storageFile is a file of a file system that may be the storage.
type storageFile struct {
	*tree.Entry
	content *region.Mapped
	inode   uint32
}

// storageFiles collects the files of a file system, as many as their names are bounded to.
type storageFiles struct {
	list  []storageFile
	count names
}

func (s *storageFiles) add(f storageFile) error {
	if err := s.count.add(f.Entry); err != nil {
		return err
	}
	s.list = append(s.list, f)
	return nil
}

// storageNodes returns the files of a file system. Of several names of a file the one counts that a
// revision has for it; an object is left out when it has another name, since names of objects
// change with their content.
func storageNodes(files []storageFile, content func(*region.Mapped) *Content, id func(inode uint32) string) (out []*Node) {
	first := map[uint32]string{} // the name of a file that counts
	for _, f := range files {
		if name, ok := first[f.inode]; !ok || rank(f.Name) < rank(name) {
			first[f.inode] = f.Name
		}
	}
	for _, f := range files {
		name := first[f.inode]
		if name != f.Name && strings.HasPrefix(f.Name, objectsDir) {
			continue
		}
		if f.HardLink = ""; name != f.Name {
			f.HardLink = name
		}
		n := &Node{Name: f.Name, Attributes: attributes(f.Entry)}
		if rest, ok := strings.CutPrefix(f.Name, trailDir); ok && !strings.HasPrefix(rest, ".") && strings.Contains(rest, "/") {
			n.part, _, _ = strings.Cut(rest, "/")
		}
		if f.content != nil && f.HardLink == "" {
			n.Content = content(f.content)
			n.Content.ID = id(f.inode)
		}
		out = append(out, n)
	}
	return out
}

// rank orders the names of a file: that of a revision comes before a boot link, and before that
// of an object.
func rank(name string) int {
	switch {
	case strings.HasPrefix(name, objectsDir):
		return 2
	case strings.Contains(name, "/.pv/"):
		return 1
	}
	return 0
}

func openFAT(r *Reader, ctx context.Context, c *Content) (*Inside, error) {
	f, err := fat.Open(c.At)
	if err != nil {
		return nil, err
	}
	in := &Inside{regions: f.Regions, Form: fmt.Sprintf("fat%d", f.Bits()), Attributes: []Attribute{
		{Name: "label", Value: f.Label()}, {Name: "volume number", Value: fmt.Sprintf("%08x", f.Number()), Derived: true},
		{Name: "size", Value: fmt.Sprint(f.Size())},
	}}
	count := r.counting()
	err = f.Walk(ctx, func(n *fat.File) error {
		if err := count.add(&tree.Entry{Name: n.Name}); err != nil {
			return err
		}
		node := &Node{Name: n.Name, Attributes: []Attribute{
			{Name: "attributes", Value: fmt.Sprintf("%#02x", n.Attributes)}, {Name: "time", Value: n.ModTime.Format("2006-01-02T15:04:05Z")},
		}}
		if n.Content != nil {
			node.Content = c.mappedIn(n.Content)
		}
		if n.Name != "." {
			in.Nodes = append(in.Nodes, node)
		}
		return nil
	})
	return in, err
}

// openDisk reads a partition table. What is outside of the partitions is a part too: boot stages
// that a board reads from fixed places of the disk.
func openDisk(_ *Reader, _ context.Context, c *Content) (*Inside, error) {
	t, err := partition.Read(c.At, c.Size)
	if errors.Is(err, partition.ErrFormat) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	in := &Inside{Form: t.Form, regions: func(_ context.Context, add region.Add) error {
		t.Regions(add)
		return nil
	}}
	in.Attributes = []Attribute{{Name: "identifier", Value: t.ID, Derived: true}}
	for _, p := range t.Record {
		in.Attributes = append(in.Attributes, Attribute{Name: fmt.Sprintf("entry %d of the master boot record", p.Number), Value: fmt.Sprintf("type %s, %d bytes from %d", p.Type, p.Size, p.Start)})
	}
	for n, text := range t.Damage {
		in.Attributes = append(in.Attributes, Attribute{Name: fmt.Sprintf("damage %d", n+1), Value: text})
	}
	for _, g := range t.Gaps() {
		in.Nodes = append(in.Nodes, &Node{Name: g.Name, Content: c.runs(g.Size, g.Runs)})
	}
	for _, p := range t.Partitions {
		node := &Node{Name: fmt.Sprintf("partition %d", p.Number), Content: c.part(p.Start, p.Size)}
		node.Attributes = []Attribute{
			{Name: "name", Value: p.Name}, {Name: "type", Value: p.Type}, {Name: "identifier", Value: p.ID, Derived: true},
			{Name: "start", Value: fmt.Sprint(p.Start)}, {Name: "attributes", Value: fmt.Sprintf("%#x", p.Attributes)},
		}
		in.Nodes = append(in.Nodes, node)
	}
	return in, nil
}

func openUBI(_ *Reader, _ context.Context, c *Content) (*Inside, error) {
	image, err := ubi.Read(c.At, c.Size)
	if err != nil {
		return nil, err
	}
	in := &Inside{Form: "ubi", regions: func(_ context.Context, add region.Add) error {
		image.Regions(add)
		return nil
	}}
	in.Attributes = []Attribute{{Name: "erase block", Value: fmt.Sprint(image.Block)}}
	for _, v := range image.Volumes {
		in.Nodes = append(in.Nodes, &Node{Name: "volume " + v.Name, Content: mapped(v.Content), Attributes: []Attribute{{Name: "number", Value: fmt.Sprint(v.Number)}}})
	}
	return in, nil
}

func openUBIFS(r *Reader, ctx context.Context, c *Content) (*Inside, error) {
	f, err := ubifs.Open(ctx, c.At, c.Size)
	if err != nil {
		if f == nil {
			return nil, err
		}
		return &Inside{Form: "ubifs", regions: f.Regions}, err
	}
	in := &Inside{Form: "ubifs", regions: f.Regions, Attributes: []Attribute{
		{Name: "UUID", Value: f.UUID(), Derived: true}, {Name: "block size", Value: fmt.Sprint(f.BlockSize())},
	}}
	files := storageFiles{count: r.counting()}
	err = f.Walk(ctx, func(n *ubifs.File) error { return files.add(storageFile{&n.Entry, n.Content, n.Inode}) })
	in.Nodes = storageNodes(files.list, mapped, r.identity())
	return in, err
}

// openCpio reads archives that follow each other, as in an initrd of several parts.
func openCpio(r *Reader, ctx context.Context, c *Content) (*Inside, error) {
	in := &Inside{Form: "cpio", regions: func(ctx context.Context, add region.Add) error { return cpioRegions(ctx, c, add) }}
	count := r.counting()
	err := walkCpio(ctx, c, func(base int64, name string, h *cpio.Header) error {
		n := &Node{Name: name, Attributes: attributes(&h.Entry)}
		if h.Mode.IsRegular() {
			n.Content = c.part(base+h.Offset, h.Size)
		}
		in.Nodes = append(in.Nodes, n)
		return count.add(&h.Entry)
	}, func(int64) {})
	return in, err
}

// walkCpio calls member with each member of archives that follow each other, where its archive
// begins, and a name that no other has; trailer with the end of each archive.
func walkCpio(ctx context.Context, c *Content, member func(base int64, name string, h *cpio.Header) error, trailer func(end int64)) error {
	seen := map[string]int{}
	for base := int64(0); base < c.Size; {
		a := cpio.NewReader(io.NewSectionReader(c.At, base, c.Size-base))
		for {
			if err := ctx.Err(); err != nil {
				return err
			}
			h, err := a.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			name := h.Name
			if seen[h.Name]++; seen[h.Name] > 1 {
				name = fmt.Sprintf("%s (%d)", h.Name, seen[h.Name])
			}
			if err := member(base, name, h); err != nil {
				return err
			}
		}
		trailer(base + a.Position())
		next, err := afterZeros(ctx, c, base+a.Position())
		if err != nil {
			return err
		}
		base = next
	}
	return nil
}

// cpioRegions describes archives that follow each other.
func cpioRegions(ctx context.Context, c *Content, add region.Add) error {
	add.Own(0, c.Size, "padding")
	return walkCpio(ctx, c, func(base int64, name string, h *cpio.Header) error {
		add.Own(base+h.Start, max(h.Offset-h.Start, 110), "header of cpio member %s", name)
		if h.Mode.IsRegular() {
			add(base+h.Offset, h.Size, func() region.Place { return region.Place{Name: "cpio member", File: name, Offset: 0} })
		}
		return nil
	}, func(end int64) { add.Own(end-124, 124, "trailer") })
}

// afterZeros returns the offset of the first byte that is not zero.
func afterZeros(ctx context.Context, c *Content, at int64) (int64, error) {
	buf := make([]byte, 64<<10)
	for at < c.Size {
		if err := ctx.Err(); err != nil {
			return at, err
		}
		n, err := c.At.ReadAt(buf[:min(int64(len(buf)), c.Size-at)], at)
		for i, b := range buf[:n] {
			if b != 0 {
				return at + int64(i), nil
			}
		}
		if at += int64(n); err != nil && !errors.Is(err, io.EOF) {
			return at, err
		}
	}
	return at, nil
}

// counter counts what is read, and passes over what is not wanted.
type counter struct {
	r  *io.SectionReader
	at int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.at += int64(n)
	return n, err
}

// Seek lets package tar pass over contents without reading them.
func (c *counter) Seek(offset int64, whence int) (int64, error) {
	at, err := c.r.Seek(offset, whence)
	c.at = at
	return at, err
}

func openTar(r *Reader, ctx context.Context, c *Content) (*Inside, error) {
	in := &Inside{Form: "tar", regions: func(ctx context.Context, add region.Add) error { return tarRegions(ctx, c, add) }}
	count := r.counting()
	err := walkTar(ctx, c, func(at int64, e *tree.Entry) error {
		n := &Node{Name: e.Name, Attributes: attributes(e)}
		if e.Mode.IsRegular() && e.HardLink == "" {
			n.Content = c.part(at, e.Size)
		}
		in.Nodes = append(in.Nodes, n)
		return count.add(e)
	})
	if err != nil {
		return in, err
	}
	return in, exported(in)
}

// walkTar calls member with each member of an archive, and where its content is.
func walkTar(ctx context.Context, c *Content, member func(at int64, e *tree.Entry) error) error {
	from := &counter{r: io.NewSectionReader(c.At, 0, c.Size)}
	a := tarball.NewReader(from)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		e, err := a.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		e.Name = path.Clean(e.Name)
		if err := member(from.at, &e); err != nil {
			return err
		}
	}
}

// tarRegions describes an archive.
func tarRegions(ctx context.Context, c *Content, add region.Add) error {
	add.Own(0, c.Size, "a header of the archive, or padding")
	return walkTar(ctx, c, func(at int64, e *tree.Entry) error {
		if e.Mode.IsRegular() && e.HardLink == "" {
			add(at, e.Size, func() region.Place { return region.Place{Name: "tar member", File: e.Name, Offset: 0} })
		}
		return nil
	})
}

// maxTree is the size of the largest hash tree of which each block has a region, in bytes: that of
// 128 GiB of data.
const maxTree = 1 << 30

// openVerity reads the header of a hash tree; its blocks are not looked into.
func openVerity(_ *Reader, _ context.Context, c *Content) (*Inside, error) {
	head := make([]byte, 512)
	if _, err := c.At.ReadAt(head, 0); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	salt := head[88 : 88+min(int(le.Uint16(head[80:])), 256)]
	in := &Inside{Form: "verity", Attributes: []Attribute{
		{Name: "UUID", Value: fmt.Sprintf("%x", head[16:32])}, {Name: "salt", Value: fmt.Sprintf("%x", salt)},
		{Name: "data blocks", Value: fmt.Sprint(le.Uint64(head[72:]))},
	}}
	in.regions = func(_ context.Context, add region.Add) error {
		add.Own(0, 4096, "header of the hash tree")
		if c.Size > maxTree {
			add.Own(4096, c.Size-4096, "hash tree")
			return nil
		}
		for at := int64(4096); at < c.Size; at += 4096 {
			add.Own(at, 4096, "block %d of the hash tree", at/4096-1)
		}
		return nil
	}
	return in, nil
}

// openUImage reads U-Boot's legacy image.
func openUImage(_ *Reader, _ context.Context, c *Content) (*Inside, error) {
	const size = 64
	head := make([]byte, size)
	if _, err := c.At.ReadAt(head, 0); err != nil {
		return nil, err
	}
	be := binary.BigEndian
	in := &Inside{Form: "uImage", Attributes: []Attribute{
		{Name: "image name", Value: string(bytes.TrimRight(head[32:], "\x00"))}, {Name: "load", Value: fmt.Sprintf("%#x", be.Uint32(head[16:]))},
		{Name: "entry", Value: fmt.Sprintf("%#x", be.Uint32(head[20:]))}, {Name: "system, CPU, type, compression", Value: fmt.Sprintf("%x", head[28:32])},
		{Name: "made", Value: fmt.Sprint(be.Uint32(head[8:]))},
	}}
	in.Nodes = []*Node{{Name: unpacked, Content: c.part(size, c.Size-size)}}
	in.regions = func(_ context.Context, add region.Add) error {
		add.Own(0, size, "header")
		return nil
	}
	return in, nil
}

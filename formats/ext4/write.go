package ext4

import (
	"context"
	"fmt"
	"io"
	"io/fs"

	"github.com/pantavisor/pantavisor/formats/tree"
)

// writer makes one file system.
type writer struct {
	*geometry
	*index
	opts  Options
	seed  uint32 // of checksums
	free  allocator
	out   sink // of blocks
	table sink // of inodes
	// directories are counted by group.
	directories []uint32
	buf         []byte // for content
	journal     []byte // the body of the journal's inode
}

// Write makes a file system from byte 0 of w on, which has to hold zeros as far as the size
// goes: nothing is written that would be zero. The entries are those of one tree; every
// directory has an entry, except for the root and lost+found, which are added. The content of
// files is read once, in the order of the entries; blocks of zeros become holes. If an error
// is returned, what has been written is not a file system.
//
// Access, change and creation time are the modification time. Of extended attributes those of
// user, trusted, security and the two ACLs are taken, the latter in the form of getxattr(2),
// as far as they have room in the inode and in one block.
func Write(ctx context.Context, w io.WriterAt, entries []tree.Entry, o Options) error {
	o, err := o.checked()
	if err != nil {
		return fmt.Errorf("making an ext4: %w", err)
	}
	g, err := divide(o)
	if err != nil {
		return fmt.Errorf("making an ext4: %w", err)
	}
	x, err := number(entries, g.limits(), &o)
	if err != nil {
		return fmt.Errorf("making an ext4: %w", err)
	}
	if most := g.inodeCount() - firstInode + 1; x.files > most {
		return fmt.Errorf("making an ext4: %d files, inodes for %d: %w", x.files, most, ErrFull)
	}
	v := &writer{geometry: g, index: x, opts: o, seed: checksum(crcStart, o.UUID[:]), free: newAllocator(g), out: sink{w: w}, table: sink{w: w}}
	if err := v.run(ctx); err != nil {
		return fmt.Errorf("making an ext4: %w", err)
	}
	return nil
}

// run writes everything, the superblock last.
func (w *writer) run(ctx context.Context) error {
	for _, step := range []func() error{w.putResize, w.putJournal} {
		if err := step(); err != nil {
			return err
		}
	}
	for i := range w.nodes {
		if err := w.putNode(ctx, int32(i)); err != nil {
			return fmt.Errorf("adding %.200q: %w", w.nodes[i].Name, err)
		}
	}
	return w.finish()
}

// putNode writes what belongs to a name: content and inode.
func (w *writer) putNode(ctx context.Context, i int32) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := w.failed(); err != nil {
		return err
	}
	n := &w.nodes[i]
	if n.file != i {
		return nil
	}
	out := &inode{Entry: n.Entry, number: n.inode, links: n.links, mode: tree.StatMode(n.Mode)}
	x := &extents{w: w, sum: w.seedOf(n.inode)}
	var err error
	switch n.Mode.Type() {
	case 0:
		out.size = n.Size
		err = w.content(ctx, n.Entry, x)
	case fs.ModeDir:
		out.size, err = w.directory(i, out, x)
	case fs.ModeSymlink:
		out.size, err = w.link(n.Link, out, x)
	default:
		out.body = device(n.Entry)
	}
	if err != nil {
		return err
	}
	return w.complete(out, x)
}

// complete writes the inode of a file whose content is written.
func (w *writer) complete(n *inode, x *extents) (err error) {
	if n.body == nil {
		n.flags |= extentsFlag
		if n.body, err = x.root(); err != nil {
			return err
		}
	}
	if err := w.attributes(n); err != nil {
		return err
	}
	n.blocks += x.blocks
	w.put(n)
	return nil
}

// failed returns the first error of writing.
func (w *writer) failed() error {
	if w.out.err != nil {
		return w.out.err
	}
	return w.table.err
}

// countDirectory counts a directory in a group.
func (w *writer) countDirectory(group int64) {
	for int64(len(w.directories)) <= group {
		w.directories = append(w.directories, 0)
	}
	w.directories[group]++
}

// store writes blocks that are contiguous in a file; data are whole blocks.
func (w *writer) store(x *extents, logical int64, data []byte) error {
	for len(data) > 0 {
		r, err := w.free.next(int64(len(data)) / w.block)
		if err != nil {
			return err
		}
		n := (r.end - r.start) * w.block
		w.out.write(r.start*w.block, data[:n])
		if err := x.add(logical, r); err != nil {
			return err
		}
		data, logical = data[n:], logical+r.end-r.start
	}
	return nil
}

// shortLink is the number of bytes of a link that an inode has room for, with its final NUL.
const shortLink = 60

func (w *writer) link(target string, n *inode, x *extents) (int64, error) {
	if len(target) < shortLink {
		n.body = make([]byte, shortLink)
		copy(n.body, target)
		return int64(len(target)), nil
	}
	block := make([]byte, w.block)
	copy(block, target)
	return int64(len(target)), w.store(x, 0, block)
}

// device returns the number of a device as an inode has it; all zeros for a FIFO or socket.
func device(e *tree.Entry) []byte {
	out := make([]byte, 8)
	if e.Mode&fs.ModeDevice == 0 {
		return out
	}
	if e.Major < 256 && e.Minor < 256 {
		le.PutUint32(out, e.Major<<8|e.Minor)
	} else {
		le.PutUint32(out[4:], e.Minor&0xff|e.Major<<8|e.Minor&^0xff<<12)
	}
	return out
}

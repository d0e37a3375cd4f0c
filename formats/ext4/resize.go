package ext4

import "github.com/pantavisor/pantavisor/formats/tree"

// doubleIndirect is the pointer of an inode to a block of pointers to blocks of pointers.
const doubleIndirect = 13

// putResize writes the inode that has the blocks reserved for further group descriptors: each
// of those behind the first descriptors lists its copies in the other groups.
func (w *writer) putResize() error {
	at, err := w.free.one()
	if err != nil {
		return err
	}
	perBlock := w.block / 4
	pointers := make([]byte, w.block)
	blocks := int64(1)
	for i := range w.growth {
		block := w.first + 1 + w.descriptors + i
		le.PutUint32(pointers[(w.descriptors+i)%perBlock*4:], uint32(block))
		list := make([]byte, 0, w.block)
		for n := int64(1); n < w.groups; n++ {
			if hasCopy(n) {
				list = le.AppendUint32(list, uint32(block+n*w.perGroup))
			}
		}
		blocks += 1 + int64(len(list)/4)
		if len(list) > 0 {
			w.out.write(block*w.block, list[:w.block])
		}
	}
	w.out.write(at*w.block, pointers)
	body := make([]byte, 60)
	le.PutUint32(body[4*doubleIndirect:], uint32(at))
	w.put(&inode{
		Entry: &tree.Entry{ModTime: w.opts.Time}, number: resizeInode, links: 1, mode: 0o100600, blocks: blocks, body: body,
		size: (perBlock*perBlock + perBlock + 12) * w.block,
	})
	return nil
}

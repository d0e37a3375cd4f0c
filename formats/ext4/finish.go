package ext4

// Flags of a group.
const (
	inodesUninitialized = 0x1
	tableZeroed         = 0x4
)

// finish writes bitmaps, group descriptors and superblocks, that of the file system last.
func (w *writer) finish() error {
	descriptors := make([]byte, w.descriptors*w.block)
	for n := range w.groups {
		w.putGroup(n, descriptors[n*descriptorSize:][:descriptorSize])
	}
	for n := w.groups - 1; n >= 0; n-- {
		if !hasCopy(n) {
			continue
		}
		at := w.groupStart(n)
		w.out.write((at+1)*w.block, descriptors)
		w.table.flush()
		w.out.flush()
		if n > 0 {
			w.out.write(at*w.block, w.superblock(n))
		} else {
			w.out.write(superblockAt, w.superblock(0))
		}
	}
	w.out.flush()
	return w.failed()
}

// putGroup writes the bitmaps of a group and its descriptor.
func (w *writer) putGroup(n int64, d []byte) {
	blocks, used := w.blockBitmap(n)
	free := w.groupEnd(n) - w.groupStart(n) - used
	flags := uint16(tableZeroed)
	put64(d, 0, 32, w.blockBitmaps[n])
	put64(d, 4, 36, w.inodeBitmaps[n])
	put64(d, 8, 40, w.tables[n])
	if n > 0 && n < w.groups-1 && used == w.copies(n) {
		flags |= uninitialized
	} else {
		w.out.write(w.blockBitmaps[n]*w.block, blocks)
		putHalves(d, 24, 56, checksum(w.seed, blocks[:w.perGroup/8]))
	}
	inUse := min(max(w.lastInode()-n*w.inodes, 0), w.inodes)
	if inUse == 0 {
		flags |= inodesUninitialized
	} else {
		inodes := bitmap(w.block, []run{{0, inUse}, {w.inodes, 8 * w.block}})
		w.out.write(w.inodeBitmaps[n]*w.block, inodes)
		putHalves(d, 26, 58, checksum(w.seed, inodes[:w.inodes/8]))
	}
	putHalves(d, 12, 44, uint32(free))
	putHalves(d, 14, 46, uint32(w.inodes-inUse))
	if n < int64(len(w.directories)) {
		putHalves(d, 16, 48, w.directories[n])
	}
	putHalves(d, 28, 50, uint32(w.inodes-inUse))
	le.PutUint16(d[18:], flags)
	le.PutUint16(d[30:], uint16(checksum(checksumOf(w.seed, uint32(n)), d)))
}

// lastInode returns the last one in use; all before it are, too.
func (w *writer) lastInode() int64 { return firstInode - 1 + w.files }

// blockBitmap returns that of a group and how many of its blocks are in use.
func (w *writer) blockBitmap(n int64) (bits []byte, used int64) {
	start, end := w.groupStart(n), w.groupEnd(n)
	runs := []run{{end - start, w.perGroup}, {w.perGroup, 8 * w.block}} // behind the end
	data := run{0, min(max(w.free.at-start, 0), end-start)}
	runs, used = append(runs, data), data.end
	for _, m := range w.metadataOf(start, end) {
		r := run{max(m.start-start, data.end), min(m.end, end) - start}
		if r.start < r.end {
			runs, used = append(runs, r), used+r.end-r.start
		}
	}
	return bitmap(w.block, runs), used
}

// metadataOf returns the runs of metadata that reach into a range of blocks. Ranges are asked
// for in order.
func (w *writer) metadataOf(start, end int64) []run {
	for len(w.metadata) > 0 && w.metadata[0].end <= start {
		w.metadata = w.metadata[1:]
	}
	n := 0
	for n < len(w.metadata) && w.metadata[n].start < end {
		n++
	}
	return w.metadata[:n]
}

// bitmap returns a block with bits set.
func bitmap(size int64, runs []run) []byte {
	b := make([]byte, size)
	for _, r := range runs {
		for i := r.start; i < r.end; {
			if i%8 == 0 && i+8 <= r.end {
				b[i/8] = 0xff
				i += 8
				continue
			}
			b[i/8] |= 1 << (i % 8)
			i++
		}
	}
	return b
}

// put64 and putHalves write a number whose upper half is at another place.
func put64(b []byte, low, high int, v int64) {
	le.PutUint32(b[low:], uint32(v))
	le.PutUint32(b[high:], uint32(v>>32))
}

func putHalves(b []byte, low, high int, v uint32) {
	le.PutUint16(b[low:], uint16(v))
	le.PutUint16(b[high:], uint16(v>>16))
}

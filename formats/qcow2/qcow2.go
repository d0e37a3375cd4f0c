// Package qcow2 writes disk images for QEMU in which clusters of zeros take no space:
// version 3, without backing file, compression and snapshots.
//
// Format: QEMU, docs/interop/qcow2.rst. All numbers are big-endian. The file has, in this
// order, the header, the level 1 table, the level 2 tables, the table of reference counts
// and its blocks, and the clusters with data in the order of the disk.
package qcow2

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
)

// Sizes. A table takes one cluster of entries with eight bytes; a block of reference counts
// one cluster of entries with two.
const (
	clusterBits = 16
	clusterSize = 1 << clusterBits
	perTable    = clusterSize / 8
	perBlock    = clusterSize / 2
	sectorSize  = 512
	// maxSize bounds the level 1 table to one cluster.
	maxSize = perTable * perTable * clusterSize
)

// copied marks an entry whose cluster has one reference.
const copied = 1 << 63

// Extent is a run of Length bytes at Offset.
type Extent struct{ Offset, Length int64 }

// Write writes a disk of size bytes, a multiple of 512, that has zeros outside of the
// extents, which are in order and do not overlap. It reads the data twice: clusters of
// zeros are left out wherever the extents are, so that equal disks give equal files.
func Write(ctx context.Context, w io.Writer, disk io.ReaderAt, size int64, data []Extent) error {
	if size <= 0 || size%sectorSize != 0 || size > maxSize {
		return fmt.Errorf("writing a qcow2 image: a disk of %d bytes: want a multiple of %d up to %d", size, sectorSize, int64(maxSize))
	}
	f := &file{disk: disk, size: size}
	if err := f.scan(ctx, data); err != nil {
		return fmt.Errorf("reading the disk: %w", err)
	}
	f.place()
	b := bufio.NewWriterSize(w, clusterSize)
	if err := f.write(ctx, b); err != nil {
		return fmt.Errorf("writing a qcow2 image: %w", err)
	}
	return b.Flush()
}

// file is an image in the making. Places are in clusters of the file.
type file struct {
	disk io.ReaderAt
	size int64
	used []int64 // the clusters of the disk with data, in order

	level2     []int64 // the indices of level 2 tables in the level 1 table
	firstTable int64   // the first level 2 table
	counts     int64   // the table of reference counts, in one cluster
	blocks     int64   // how many blocks of reference counts are behind it
	data       int64   // the first cluster with data
	total      int64
}

// scan finds the clusters with data.
func (f *file) scan(ctx context.Context, data []Extent) error {
	buf, next := make([]byte, clusterSize), int64(0)
	for _, e := range data {
		if e.Offset < 0 || e.Length < 0 || e.Offset > f.size-e.Length {
			return fmt.Errorf("bytes %d to %d are not of a disk with %d", e.Offset, e.Offset+e.Length, f.size)
		}
		for n := max(next, e.Offset/clusterSize); n*clusterSize < e.Offset+e.Length; n++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			b, err := f.cluster(buf, n)
			if err != nil {
				return err
			}
			if !bytes.Equal(b, zeros[:len(b)]) {
				f.used = append(f.used, n)
			}
			next = n + 1
		}
	}
	return nil
}

var zeros [clusterSize]byte

// cluster reads a cluster of the disk, the last one of which may be shorter.
func (f *file) cluster(buf []byte, n int64) ([]byte, error) {
	b := buf[:min(clusterSize, f.size-n*clusterSize)]
	_, err := io.ReadFull(io.NewSectionReader(f.disk, n*clusterSize, int64(len(b))), b)
	return b, err
}

// place determines where everything is.
func (f *file) place() {
	for _, n := range f.used {
		if i := n / perTable; len(f.level2) == 0 || f.level2[len(f.level2)-1] != i {
			f.level2 = append(f.level2, i)
		}
	}
	f.firstTable = 2 // behind header and level 1 table
	f.counts = f.firstTable + int64(len(f.level2))
	for f.blocks = 1; ; f.blocks++ {
		f.data = f.counts + 1 + f.blocks
		f.total = f.data + int64(len(f.used))
		if f.total <= f.blocks*perBlock {
			return
		}
	}
}

// level1Size is the number of entries of the level 1 table.
func (f *file) level1Size() int64 {
	const each = perTable * clusterSize
	return (f.size + each - 1) / each
}

func (f *file) write(ctx context.Context, w *bufio.Writer) error {
	for _, part := range []func(io.Writer) error{f.header, f.level1, f.tables, f.countTable, f.countBlocks} {
		if err := part(w); err != nil {
			return err
		}
	}
	return f.clusters(ctx, w)
}

// pad writes b, filled up with zeros to whole clusters.
func pad(w io.Writer, b []byte) error {
	_, err := w.Write(append(b, make([]byte, -len(b)&(clusterSize-1))...))
	return err
}

// header writes the header, of the length that version 3 has at least, and the end of its
// extensions.
func (f *file) header(w io.Writer) error {
	const (
		headerSize  = 104
		refcount16  = 4 // two to this power are the bits of a reference count
		level1Place = 1
	)
	var b bytes.Buffer
	b.WriteString("QFI\xfb")
	for _, field := range []any{
		uint32(3), uint64(0), uint32(0), // version, backing file
		uint32(clusterBits), uint64(f.size), uint32(0), // encryption
		uint32(f.level1Size()), uint64(level1Place * clusterSize),
		uint64(f.counts * clusterSize), uint32(1), // clusters of the table of reference counts
		uint32(0), uint64(0), // snapshots
		uint64(0), uint64(0), uint64(0), // features
		uint32(refcount16), uint32(headerSize), uint64(0), // end of the extensions
	} {
		_ = binary.Write(&b, binary.BigEndian, field) // a buffer takes everything
	}
	return pad(w, b.Bytes())
}

func (f *file) level1(w io.Writer) error {
	table := make([]byte, clusterSize)
	for n, i := range f.level2 {
		binary.BigEndian.PutUint64(table[i*8:], copied|uint64(f.firstTable+int64(n))<<clusterBits)
	}
	_, err := w.Write(table)
	return err
}

func (f *file) tables(w io.Writer) error {
	at := 0
	for _, i := range f.level2 {
		table := make([]byte, clusterSize)
		for ; at < len(f.used) && f.used[at]/perTable == i; at++ {
			binary.BigEndian.PutUint64(table[f.used[at]%perTable*8:], copied|uint64(f.data+int64(at))<<clusterBits)
		}
		if _, err := w.Write(table); err != nil {
			return err
		}
	}
	return nil
}

func (f *file) countTable(w io.Writer) error {
	var table []byte
	for n := range f.blocks {
		table = binary.BigEndian.AppendUint64(table, uint64(f.counts+1+n)<<clusterBits)
	}
	return pad(w, table)
}

// countBlocks says that every cluster of the file is used once.
func (f *file) countBlocks(w io.Writer) error {
	for n := range f.blocks {
		var block []byte
		for range min(perBlock, f.total-n*perBlock) {
			block = append(block, 0, 1)
		}
		if err := pad(w, block); err != nil {
			return err
		}
	}
	return nil
}

func (f *file) clusters(ctx context.Context, w io.Writer) error {
	buf := make([]byte, clusterSize)
	for _, n := range f.used {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := f.cluster(buf, n)
		if err != nil {
			return err
		}
		clear(buf[len(b):]) // of the last cluster
		if _, err := w.Write(buf); err != nil {
			return err
		}
	}
	return nil
}

package squashfs

import (
	"errors"
	"fmt"
	"math"
)

const (
	metadataSize   = 8 << 10 // content of one metadata block
	metadataStored = 0x8000  // flag in its header: not compressed
)

// position is a place in a table of metadata blocks: where its block starts, in
// the packed table, and the offset in the unpacked block.
type position struct {
	block  uint32
	offset uint16
}

// ref is the form in which inodes and xattrs are referred to.
func (p position) ref() uint64 { return uint64(p.block)<<16 | uint64(p.offset) }

// table is a run of metadata blocks that grows at its end.
type table struct {
	comp   compressor
	buf    []byte // unpacked content of the block being filled
	packed []byte // finished blocks with their headers
	starts []uint32
	err    error
}

func (t *table) position() position {
	return position{uint32(len(t.packed)), uint16(len(t.buf))}
}

func (t *table) write(b []byte) {
	for len(b) > 0 {
		n := min(metadataSize-len(t.buf), len(b))
		t.buf = append(t.buf, b[:n]...)
		b = b[n:]
		if len(t.buf) == metadataSize {
			t.flush()
		}
	}
}

func (t *table) flush() {
	if len(t.buf) > 0 && t.err == nil {
		t.err = t.pack()
	}
	t.buf = t.buf[:0]
}

// pack appends the block that is in buf.
func (t *table) pack() error {
	if int64(len(t.packed)) > math.MaxUint32 {
		return errTable
	}
	t.starts = append(t.starts, uint32(len(t.packed)))
	packed, err := t.comp.compress(t.buf)
	if header := uint16(len(packed)); len(packed) < len(t.buf) {
		t.packed = append(le.AppendUint16(t.packed, header), packed...)
	} else {
		t.packed = append(le.AppendUint16(t.packed, uint16(len(t.buf))|metadataStored), t.buf...)
	}
	return err
}

// errTable is the error for positions beyond the 32 bits that squashfs has for them.
var errTable = errors.New("its names and attributes take more than 4 GiB")

// put writes the table at the end of the image and returns its position.
func (w *Writer) put(t *table) (uint64, error) {
	t.flush()
	if t.err != nil {
		return 0, t.err
	}
	at := w.end
	return uint64(at), w.append(t.packed)
}

// putIndexed writes a table and behind it the list of its blocks' positions; the
// position of that list is what the superblock names.
func (w *Writer) putIndexed(entries []byte) (uint64, error) {
	t := &table{comp: w.comp}
	t.write(entries)
	start, err := w.put(t)
	if err != nil {
		return 0, err
	}
	at := w.end
	return uint64(at), w.append(blockList(start, t.starts))
}

func blockList(start uint64, starts []uint32) []byte {
	var list []byte
	for _, s := range starts {
		list = le.AppendUint64(list, start+uint64(s))
	}
	return list
}

func (w *Writer) append(b []byte) error {
	if _, err := w.file.WriteAt(b, w.end); err != nil {
		return fmt.Errorf("writing metadata at %d: %w", w.end, err)
	}
	w.end += int64(len(b))
	return nil
}

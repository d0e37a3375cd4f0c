// Package zstddec unpacks zstd frames (RFC 8878) with bounded memory. It is made to be small, for
// programs on a device: it has no dictionaries and uses one processor.
//
// Frames follow each other, with skippable ones among them. What a frame says of itself is
// checked: its window, its size, its checksum.
package zstddec

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/pantavisor/pantavisor/formats/zstdcode"
)

// defaultWindow is the window in bytes that decoders are asked to take (3.1.1.1.2).
const defaultWindow = 8 << 20

// slack is how many bytes behind a stream of bits its reader may look at.
const slack = 8

// Reader unpacks a stream. It keeps some 400 KiB, and what a frame needs for its window.
type Reader struct {
	in    *bufio.Reader
	limit int64
	err   error // of the stream

	// The frame that is being read.
	inside bool
	size   int64 // of its content, -1 when it does not say
	block  int   // the most bytes of a block
	check  bool
	sum    xxh64
	window window
	reps   [3]int

	packed   []byte // a compressed block and slack
	literals []byte
	huffman  huffman
	codes    [3]codes // of literal lengths, offsets and match lengths
}

// NewReader returns a reader of the frames in r whose windows have at most limit bytes; 0 means
// 8 MiB.
func NewReader(r io.Reader, limit int64) *Reader {
	if limit <= 0 {
		limit = defaultWindow
	}
	z := &Reader{in: bufio.NewReader(r), limit: limit}
	z.codes = [3]codes{
		{log: zstdcode.LiteralLengthLog, most: zstdcode.MaxLiteralLengthLog, predefined: zstdcode.LiteralLengthCounts, ranges: zstdcode.LiteralLengths()},
		{log: zstdcode.OffsetLog, most: zstdcode.MaxOffsetLog, predefined: zstdcode.OffsetCounts},
		{log: zstdcode.MatchLengthLog, most: zstdcode.MaxMatchLengthLog, predefined: zstdcode.MatchLengthCounts, ranges: zstdcode.MatchLengths()},
	}
	return z
}

// Reset makes the reader read another stream. The memory is used again.
func (z *Reader) Reset(r io.Reader) {
	z.in.Reset(r)
	z.err, z.inside = nil, false
	z.window.start(0)
}

// Read implements io.Reader. A frame's end is reached without an error only when all of it was
// right.
func (z *Reader) Read(p []byte) (int, error) {
	for {
		if n := z.window.read(p); n > 0 || len(p) == 0 {
			return n, nil
		}
		if z.err == nil {
			z.err = z.step()
		}
		// The window has nothing of a block that was not read whole.
		if z.err != nil {
			return 0, z.err
		}
	}
}

// step reads a frame's header, a block, or a skippable frame.
func (z *Reader) step() error {
	var err error
	if z.inside {
		err = z.nextBlock()
	} else {
		_, err = z.in.Peek(1)
		if errors.Is(err, io.EOF) {
			return io.EOF
		}
		if err == nil {
			err = z.header()
		}
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("reading a zstd frame: %w", err)
	}
	return nil
}

// number reads n bytes, least significant first.
func (z *Reader) number(n int) (uint64, error) {
	var b [8]byte
	p, err := z.in.Peek(n)
	if err == nil {
		copy(b[:], p)
		_, err = z.in.Discard(n)
	}
	return binary.LittleEndian.Uint64(b[:]), err
}

const (
	skippable     = 0x184d2a50 // and the 15 numbers behind it
	hasChecksum   = 1 << 2
	reservedFlag  = 1 << 3
	minWindowLog  = 10
	windowMantiss = 3 // bits
)

// header reads a frame's header (3.1.1.1) or skips a skippable frame (3.1.2).
func (z *Reader) header() error {
	magic, err := z.number(4)
	if err != nil {
		return err
	}
	if magic&^15 == skippable {
		size, err := z.number(4)
		if err == nil {
			_, err = io.CopyN(io.Discard, z.in, int64(size))
		}
		return err
	}
	if magic != zstdcode.FrameMagic {
		return errors.New("the data is not of this format")
	}
	flags, err := z.number(1)
	if err != nil {
		return err
	}
	if flags&reservedFlag != 0 {
		return errors.New("the header has a flag of another version")
	}
	single := flags&zstdcode.SingleSegment != 0
	size := int64(0)
	if !single {
		d, err := z.number(1)
		if err != nil {
			return err
		}
		size = 1 << (minWindowLog + d>>windowMantiss)
		size += size >> windowMantiss * int64(d&(1<<windowMantiss-1))
	}
	dictionary, err := z.number(1 << (flags & 3) >> 1)
	if err != nil {
		return err
	}
	if dictionary != 0 {
		return fmt.Errorf("it needs the dictionary %d", dictionary)
	}
	if err := z.contentSize(flags, single); err != nil {
		return err
	}
	if single {
		size = z.size
	}
	if size > z.limit {
		return fmt.Errorf("its window has %d bytes, at most %d are allowed", size, z.limit)
	}
	z.inside, z.check = true, flags&hasChecksum != 0
	z.block = int(min(size, zstdcode.MaxBlock))
	z.window.start(int(size))
	z.sum.start()
	z.reps = [3]int{1, 4, 8}
	z.huffman.log = 0
	for i := range z.codes {
		z.codes[i].table = nil
	}
	return nil
}

// contentSize reads the size of the content (3.1.1.1.4).
func (z *Reader) contentSize(flags uint64, single bool) error {
	kind := flags >> 6
	z.size = -1
	if kind == 0 && !single {
		return nil
	}
	n, err := z.number(1 << kind)
	if kind == 1 {
		n += 256
	}
	if int64(n) < 0 {
		return fmt.Errorf("its size is %d", n)
	}
	z.size = int64(n)
	return err
}

// nextBlock reads a block (3.1.1.2), and what follows the last one.
func (z *Reader) nextBlock() error {
	head, err := z.number(3)
	if err != nil {
		return err
	}
	last, kind, size := head&1 != 0, head>>1&3, int(head>>3)
	if size > z.block {
		return fmt.Errorf("a block has %d bytes, at most %d are allowed", size, z.block)
	}
	switch kind {
	case zstdcode.BlockRaw:
		err = z.fill(size)
		z.window.write(z.packed[:size])
	case zstdcode.BlockRLE:
		var b uint64
		b, err = z.number(1)
		z.window.repeat(byte(b), size)
	case zstdcode.BlockCompressed:
		if err = z.fill(size); err == nil {
			err = z.compressed(z.packed[:size])
		}
	default:
		err = errors.New("a block has an unknown type")
	}
	if err == nil {
		err = z.account(last)
	}
	if err != nil {
		z.window.drop()
	}
	return err
}

// fill reads size bytes into packed.
func (z *Reader) fill(size int) error {
	if len(z.packed) < size+slack {
		z.packed = make([]byte, size+size/4+slack)
	}
	_, err := io.ReadFull(z.in, z.packed[:size])
	return err
}

// account checks what a block has brought, and the end of a frame.
func (z *Reader) account(last bool) error {
	if made := z.window.made; z.size >= 0 && (made > z.size || last && made < z.size) {
		return fmt.Errorf("it has %d bytes or more, its header says %d", made, z.size)
	}
	if z.check {
		a, b := z.window.unread()
		z.sum.write(a)
		z.sum.write(b)
	}
	if !last {
		return nil
	}
	z.inside = false
	if !z.check {
		return nil
	}
	sum, err := z.number(4)
	if err == nil && uint32(sum) != uint32(z.sum.sum()) {
		err = errors.New("its checksum is wrong")
	}
	return err
}

// errDamaged is the error for a block that no encoder writes.
var errDamaged = errors.New("a block is damaged")

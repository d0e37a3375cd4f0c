// Package xz4 joins xz files into one stream of several blocks and pads it to a multiple
// of four bytes: the form "xz4" of initrds, which a boot loader may concatenate.
//
// One stream of many blocks, unlike many streams, is one archive for the kernel's
// decoder, so a single cpio archive can be compressed in pieces that are cached
// separately. Nothing is decompressed here: blocks are copied and a new index is written.
//
// Format: The .xz File Format, version 1.1.0 (tukaani.org/xz/xz-file-format.txt).
// The kernel knows the check types None and CRC32 only.
package xz4

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// ErrFormat is wrapped by every error about bytes that are not a usable xz stream.
var ErrFormat = errors.New("not a single xz stream with CRC32")

const (
	headerSize = 12
	footerSize = 12
	// maxIndex bounds the memory for one index: more than 100 000 blocks.
	maxIndex = 1 << 20
)

var (
	headMagic = []byte{0xFD, '7', 'z', 'X', 'Z', 0}
	footMagic = []byte{'Y', 'Z'}
	flags     = []byte{0, 1} // CRC32
)

// Block is one block of a stream, as described by the index.
type Block struct {
	// Unpadded is the size of header, compressed data and check in bytes.
	Unpadded uint64
	// Uncompressed is the size of the decompressed data in bytes.
	Uncompressed uint64
}

func (b Block) padded() uint64 { return (b.Unpadded + 3) &^ 3 }

// Input is one xz file of Size bytes.
type Input struct {
	io.ReaderAt
	Size int64
}

// Join writes one stream that holds the blocks of all inputs in order. Each
// input is a single stream with CRC32 checks.
func Join(w io.Writer, inputs ...Input) error {
	if _, err := w.Write(streamHeader()); err != nil {
		return fmt.Errorf("writing the stream header: %w", err)
	}
	var all []Block
	for i, in := range inputs {
		blocks, err := Blocks(in)
		if err != nil {
			return fmt.Errorf("joining part %d: %w", i, err)
		}
		if _, err := io.Copy(w, io.NewSectionReader(in, headerSize, total(blocks))); err != nil {
			return fmt.Errorf("copying the blocks of part %d: %w", i, err)
		}
		all = append(all, blocks...)
	}
	index := encodeIndex(all)
	if len(index) > maxIndex {
		return fmt.Errorf("writing the index of %d blocks: its %d bytes are more than the %d that are read: %w", len(all), len(index), maxIndex, errors.ErrUnsupported)
	}
	if _, err := w.Write(append(index, streamFooter(len(index))...)); err != nil {
		return fmt.Errorf("writing the index: %w", err)
	}
	return nil
}

// Blocks reads the index of a stream and checks it against header, footer and
// the size of the file.
func Blocks(in Input) ([]Block, error) {
	index, err := readIndex(in)
	if err != nil {
		return nil, err
	}
	blocks, err := decodeIndex(index)
	if err != nil {
		return nil, err
	}
	if total(blocks) != in.Size-headerSize-footerSize-int64(len(index)) {
		return nil, fmt.Errorf("reading the index: blocks do not fill the file: %w", ErrFormat)
	}
	return blocks, checkBlockHeaders(in, blocks)
}

// Pad returns the number of zeros that pad n bytes to a multiple of four.
func Pad(n int64) int64 { return -n & 3 }

func total(blocks []Block) int64 {
	var n uint64
	for _, b := range blocks {
		n += b.padded()
	}
	return int64(n)
}

func streamHeader() []byte {
	b := append(append([]byte(nil), headMagic...), flags...)
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(flags))
}

func streamFooter(indexSize int) []byte {
	body := binary.LittleEndian.AppendUint32(nil, uint32(indexSize/4-1))
	body = append(body, flags...)
	b := binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(body))
	return append(append(b, body...), footMagic...)
}

func encodeIndex(blocks []Block) []byte {
	b := binary.AppendUvarint([]byte{0}, uint64(len(blocks)))
	for _, x := range blocks {
		b = binary.AppendUvarint(binary.AppendUvarint(b, x.Unpadded), x.Uncompressed)
	}
	b = append(b, make([]byte, Pad(int64(len(b))))...)
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

// readIndex finds the index through the footer and checks the three checksums.
func readIndex(in Input) ([]byte, error) {
	head, foot := make([]byte, headerSize), make([]byte, footerSize)
	if in.Size < headerSize+footerSize+8 || in.Size%4 != 0 {
		return nil, fmt.Errorf("reading a stream of %d bytes: %w", in.Size, ErrFormat)
	}
	if _, err := in.ReadAt(head, 0); err != nil {
		return nil, fmt.Errorf("reading the stream header: %w", err)
	}
	if _, err := in.ReadAt(foot, in.Size-footerSize); err != nil {
		return nil, fmt.Errorf("reading the stream footer: %w", err)
	}
	size := (int64(binary.LittleEndian.Uint32(foot[4:])) + 1) * 4
	if size > maxIndex || size > in.Size-headerSize-footerSize {
		return nil, fmt.Errorf("reading an index of %d bytes: %w", size, ErrFormat)
	}
	if !bytes.Equal(head, streamHeader()) || !bytes.Equal(foot, streamFooter(int(size))) {
		return nil, fmt.Errorf("checking header and footer: %w", ErrFormat)
	}
	index := make([]byte, size)
	if _, err := in.ReadAt(index, in.Size-footerSize-size); err != nil {
		return nil, fmt.Errorf("reading the index: %w", err)
	}
	return index, nil
}

func decodeIndex(index []byte) ([]Block, error) {
	body := index[:len(index)-4]
	if index[0] != 0 || crc32.ChecksumIEEE(body) != binary.LittleEndian.Uint32(index[len(body):]) {
		return nil, fmt.Errorf("checking the index: %w", ErrFormat)
	}
	r := bytes.NewReader(body[1:])
	count, err := binary.ReadUvarint(r)
	if err != nil || count > uint64(len(body)/2) {
		return nil, fmt.Errorf("reading an index of %d blocks: %w", count, ErrFormat)
	}
	blocks := make([]Block, count)
	for i := range blocks {
		if blocks[i], err = readRecord(r); err != nil {
			return nil, err
		}
	}
	if !bytes.Equal(index, encodeIndex(blocks)) {
		return nil, fmt.Errorf("reading the index: not in its one proper form: %w", ErrFormat)
	}
	return blocks, nil
}

func readRecord(r io.ByteReader) (Block, error) {
	unpadded, err := binary.ReadUvarint(r)
	if err != nil || unpadded < 5 || unpadded > 1<<48 {
		return Block{}, fmt.Errorf("reading a block of %d bytes: %w", unpadded, ErrFormat)
	}
	uncompressed, err := binary.ReadUvarint(r)
	if err != nil || uncompressed >= 1<<63 {
		return Block{}, fmt.Errorf("reading a block that unpacks to %d bytes: %w", uncompressed, ErrFormat)
	}
	return Block{Unpadded: unpadded, Uncompressed: uncompressed}, nil
}

// checkBlockHeaders checks that there is a valid block header wherever the index says so.
func checkBlockHeaders(in Input, blocks []Block) error {
	off := int64(headerSize)
	for i, b := range blocks {
		var raw [1024]byte // (255+1)*4, the longest header
		n := min(int64(len(raw)), int64(b.padded()))
		if _, err := in.ReadAt(raw[:n], off); err != nil {
			return fmt.Errorf("reading the header of block %d: %w", i, err)
		}
		size := (int64(raw[0]) + 1) * 4
		if raw[0] == 0 || size > n || crc32.ChecksumIEEE(raw[:size-4]) != binary.LittleEndian.Uint32(raw[size-4:]) {
			return fmt.Errorf("checking the header of block %d: %w", i, ErrFormat)
		}
		off += int64(b.padded())
	}
	return nil
}

// Split returns each block of a stream as a stream of its own, in their order, and what they
// are in the index.
func Split(in Input) ([]Input, []Block, error) {
	blocks, err := Blocks(in)
	if err != nil {
		return nil, nil, err
	}
	streams := make([]Input, len(blocks))
	off := int64(headerSize)
	for i, b := range blocks {
		index := encodeIndex([]Block{b})
		s := &single{head: streamHeader(), in: in, from: off, length: int64(b.padded()), tail: append(index, streamFooter(len(index))...)}
		streams[i] = Input{s, headerSize + s.length + int64(len(s.tail))}
		off += s.length
	}
	return streams, blocks, nil
}

// single is a stream of one block of another one.
type single struct {
	head, tail   []byte
	in           io.ReaderAt
	from, length int64 // of the block
}

// ReadAt reads from the stream.
func (s *single) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for _, part := range []*io.SectionReader{
		io.NewSectionReader(bytes.NewReader(s.head), 0, int64(len(s.head))),
		io.NewSectionReader(s.in, s.from, s.length),
		io.NewSectionReader(bytes.NewReader(s.tail), 0, int64(len(s.tail))),
	} {
		if off >= part.Size() {
			off -= part.Size()
			continue
		}
		n, err := part.ReadAt(p[done:min(len(p), done+int(min(part.Size()-off, int64(len(p)))))], off)
		done, off = done+n, 0
		if err != nil && !errors.Is(err, io.EOF) || done == len(p) {
			return done, err
		}
	}
	return done, io.EOF
}

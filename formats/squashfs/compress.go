package squashfs

import (
	"bytes"
	"fmt"

	"github.com/klauspost/compress/zlib"

	"github.com/pantavisor/pantavisor/formats/xzenc"
	"github.com/pantavisor/pantavisor/formats/zstdenc"
)

// compressor packs single blocks. One goroutine uses it at a time.
type compressor interface {
	// compress returns the packed block; the result is valid until the next call.
	compress(block []byte) ([]byte, error)
}

func newCompressor(o Options) (compressor, error) {
	switch o.Compression {
	case Zstd:
		return newZstd(o)
	case XZ:
		return newXZ(o)
	default:
		return newZlib(o)
	}
}

// compressorOptions is the metadata block behind the superblock that records
// settings other than the defaults; nil when there are none.
func compressorOptions(o Options) []byte {
	switch {
	case o.Compression == Zstd && o.Level != 15:
		return le.AppendUint32(nil, uint32(o.Level))
	case o.Compression == Gzip && o.Level != 9:
		b := le.AppendUint32(nil, uint32(o.Level))
		b = le.AppendUint16(b, 15)   // window bits
		return le.AppendUint16(b, 0) // strategies
	}
	return nil
}

type zlibCompressor struct {
	out bytes.Buffer
	w   *zlib.Writer
}

func newZlib(o Options) (*zlibCompressor, error) {
	z := &zlibCompressor{}
	w, err := zlib.NewWriterLevel(&z.out, o.Level)
	if err != nil {
		return nil, fmt.Errorf("starting zlib: %w", err)
	}
	z.w = w
	return z, nil
}

func (z *zlibCompressor) compress(block []byte) ([]byte, error) {
	z.out.Reset()
	z.w.Reset(&z.out)
	if _, err := z.w.Write(block); err != nil {
		return nil, fmt.Errorf("compressing a block: %w", err)
	}
	if err := z.w.Close(); err != nil {
		return nil, fmt.Errorf("compressing a block: %w", err)
	}
	return z.out.Bytes(), nil
}

// zstdCompressor makes frames whose window is at most the block: the kernel
// prepares no more.
type zstdCompressor struct {
	enc *zstdenc.Encoder
	out []byte
}

func newZstd(o Options) (*zstdCompressor, error) {
	enc, err := zstdenc.New(max(o.BlockSize, metadataSize), o.Level)
	if err != nil {
		return nil, fmt.Errorf("starting zstd: %w", err)
	}
	return &zstdCompressor{enc: enc}, nil
}

func (z *zstdCompressor) compress(block []byte) (packed []byte, err error) {
	z.out, err = z.enc.Append(z.out[:0], block)
	return z.out, err
}

// xzCompressor makes streams with CRC32 and a dictionary of one block, all that
// the kernel's decoder takes.
type xzCompressor struct {
	enc *xzenc.Encoder
	out []byte
}

func newXZ(o Options) (*xzCompressor, error) {
	enc, err := xzenc.New(max(o.BlockSize, metadataSize))
	if err != nil {
		return nil, fmt.Errorf("starting xz: %w", err)
	}
	return &xzCompressor{enc: enc}, nil
}

func (x *xzCompressor) compress(block []byte) (packed []byte, err error) {
	x.out, err = x.enc.Append(x.out[:0], block)
	return x.out, err
}

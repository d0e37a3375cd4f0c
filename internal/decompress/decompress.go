// Package decompress reads streams that are compressed in a form which their first bytes
// name: gzip (RFC 1952), zstd (RFC 8878), xz and bzip2, each with all its members, frames
// or streams and the padding that its specification allows. Forms that it cannot read are
// errors that name them.
package decompress

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// Bounds on the memory that a stream may ask for.
const (
	maxWindow     = 128 << 20 // of zstd, as zstd --long=27
	maxDictionary = 64 << 20  // of xz, as xz -9
)

// form is a form of compression by the first bytes of its streams.
type form struct {
	name  string
	magic string
	open  func(*bufio.Reader) (io.ReadCloser, error) // nil for one that is not supported
}

var forms = []form{
	{"gzip", "\x1f\x8b", openGzip},
	{"zstd", "\x28\xb5\x2f\xfd", openZstd},
	{"xz", "\xfd7zXZ\x00", openXZ},
	{"bzip2", "BZh", openBzip2},
	{"lz4", "\x04\x22\x4d\x18", nil},
	{"lz4 (legacy)", "\x02\x21\x4c\x18", nil},
	{"lzip", "LZIP\x01", nil},
	{"lzop", "\x89LZO\x00\r\n\x1a\n", nil},
	{"lzma", "\x5d\x00\x00", nil},
	{"compress (.Z)", "\x1f\x9d", nil},
	{"zip", "PK\x03\x04", nil},
	{"7z", "7z\xbc\xaf\x27\x1c", nil},
	{"rar", "Rar!\x1a\x07", nil},
	{"lrzip", "LRZI", nil},
	{"squashfs", "hsqs", nil},
	{"cpio", "07070", nil},
	{"ar or a Debian package", "!<arch>\n", nil},
	{"rpm", "\xed\xab\xee\xdb", nil},
}

// Reader returns the content of a stream, which is that of r itself when its first bytes
// name no form of compression. Closing it does not close r. The error has the kind
// [fault.BadInput], or [fault.Unsupported] for a form that cannot be read.
func Reader(r io.Reader) (io.ReadCloser, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	head, err := in.Peek(tarBlock)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if isTar(head) {
		return plain{in}, nil
	}
	if skippable(head) {
		return openZstd(in)
	}
	for _, f := range forms {
		if !bytes.HasPrefix(head, []byte(f.magic)) {
			continue
		}
		if f.open == nil {
			return nil, fault.New(fault.Unsupported, "it has the form %s: gzip, zstd, xz and bzip2 are supported", f.name)
		}
		out, err := f.open(in)
		return out, fault.Wrap(fault.BadInput, err, "reading %s", f.name)
	}
	return plain{in}, nil
}

// Compressed reports whether what [Reader] returned is decompressed.
func Compressed(r io.ReadCloser) bool {
	_, same := r.(plain)
	return !same
}

// plain is a stream that is not compressed.
type plain struct{ io.Reader }

func (plain) Close() error { return nil }

// Of a tar header: its size, and the place of its checksum.
const (
	tarBlock    = 512
	sumAt, sumN = 148, 8
)

// isTar reports whether a block is the header of a tar archive, whose first bytes are the
// name of a file and may be those of any form.
func isTar(b []byte) bool {
	if len(b) < tarBlock {
		return false
	}
	want, err := strconv.ParseUint(string(bytes.Trim(b[sumAt:sumAt+sumN], " \x00")), 8, 32)
	sum := uint64(sumN * ' ')
	for i, c := range b[:tarBlock] {
		if i < sumAt || i >= sumAt+sumN {
			sum += uint64(c)
		}
	}
	return err == nil && sum == want
}

// skippable reports whether a stream begins with a skippable frame of zstd (RFC 8878,
// section 3.1.2).
func skippable(head []byte) bool {
	return len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte("\x2a\x4d\x18"))
}

func openZstd(in *bufio.Reader) (io.ReadCloser, error) {
	d, err := zstd.NewReader(in, zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, err
	}
	return d.IOReadCloser(), nil
}

func openXZ(in *bufio.Reader) (io.ReadCloser, error) {
	x, err := xz.NewReader(in, maxDictionary)
	return io.NopCloser(x), err
}

func openBzip2(in *bufio.Reader) (io.ReadCloser, error) {
	return io.NopCloser(bzip2.NewReader(in)), nil
}

// members reads gzip members one after the other. Zeros behind the last one are padding,
// as gzip(1) has it: tapes and block devices leave them.
type members struct {
	in   *bufio.Reader
	gzip *gzip.Reader
}

func openGzip(in *bufio.Reader) (io.ReadCloser, error) {
	z, err := gzip.NewReader(in)
	if err != nil {
		return nil, err
	}
	z.Multistream(false)
	return &members{in, z}, nil
}

func (m *members) Read(p []byte) (int, error) {
	for {
		n, err := m.gzip.Read(p)
		if n > 0 || !errors.Is(err, io.EOF) {
			if errors.Is(err, io.EOF) {
				err = nil // there may be another member
			}
			return n, err
		}
		if err := m.next(); err != nil {
			return 0, err
		}
	}
}

// next goes to the next member; it returns io.EOF when only padding follows.
func (m *members) next() error {
	padded := false
	for {
		b, err := m.in.ReadByte()
		switch {
		case err != nil:
			return err
		case b == 0:
			padded = true
			continue
		case padded:
			return fmt.Errorf("reading gzip: there is more behind the padding with zeros: %w", gzip.ErrHeader)
		}
		if err := m.in.UnreadByte(); err != nil {
			return err
		}
		if err := m.gzip.Reset(m.in); err != nil {
			return fmt.Errorf("reading the next member of gzip: %w", err)
		}
		m.gzip.Multistream(false)
		return nil
	}
}

func (m *members) Close() error { return m.gzip.Close() }

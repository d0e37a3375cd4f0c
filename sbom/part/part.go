// Package part is the form in which a part of a revision carries its own bill of materials: an object
// PART/sbom.spdx.zst, SPDX 2.3 as JSON in a frame of zstd (RFC 8878). It is about everything in the part
// but itself and its signature, which covers it.
package part

import (
	"bytes"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/spdx2"
)

// maxSize bounds a document without compression, in bytes.
const maxSize = 64 << 20

// maxWindow bounds the memory that a reader needs for the frame: devices have little.
const maxWindow = 1 << 20

// Key returns the key of a part's document in the state.
func Key(part string) string { return part + "/" + state.SBOM }

// FileName returns the name of a part's document beside that of an image.
func FileName(part string) string { return part + strings.TrimPrefix(state.SBOM, "sbom") }

// Encode writes a document in this form. The same document gives the same bytes.
func Encode(d *sbom.Document) ([]byte, error) {
	var text bytes.Buffer
	if err := spdx2.Write(&text, d); err != nil {
		return nil, err
	}
	if text.Len() > maxSize {
		return nil, fault.New(fault.BadInput, "the bill of materials of %s has %d bytes; at most %d are allowed", d.Name, text.Len(), maxSize)
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithWindowSize(maxWindow), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "compressing the bill of materials of %s", d.Name)
	}
	defer z.Close()
	return z.EncodeAll(text.Bytes(), nil), nil
}

// Decode reads a document in this form. Larger ones than [maxSize] are an error.
func Decode(r io.Reader) (*sbom.Document, error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxSize))
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading a part's bill of materials")
	}
	defer z.Close()
	text, err := bounded.Read(z, maxSize)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading a part's bill of materials")
	}
	d, err := spdx2.Read(bytes.NewReader(text))
	return d, fault.Wrap(fault.BadInput, err, "reading a part's bill of materials")
}

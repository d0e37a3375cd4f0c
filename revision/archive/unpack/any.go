package unpack

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/state"
)

// blockSize is that of a tar header, and magicAt the place of "ustar" in it (POSIX.1-2017,
// pax, "ustar Interchange Format").
const (
	blockSize = 512
	magicAt   = 257
)

// unread are forms that the devices' programs cannot read, by their first bytes.
var unread = []struct{ magic, name string }{
	{"\x28\xb5\x2f\xfd", "zstd"},
	{"\xfd7zXZ\x00", "xz"},
	{"PK\x03\x04", "zip"},
	{"hsqs", "squashfs"},
	{"BZh", "bzip2"}, // without Options.Bzip2
}

// Any reads what a device is given, whose form its first bytes say: an export as [Tar]
// reads it, plain or compressed with gzip (RFC 1952), with Options.Bzip2 also with bzip2, or a
// state document alone.
func Any(ctx context.Context, r io.Reader, opt Options) (*state.State, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	head, err := in.Peek(blockSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	switch text := bytes.TrimLeft(head, " \t\r\n"); {
	case len(head) == 0:
		return nil, fmt.Errorf("%w: it is empty", ErrArchive)
	case len(head) == blockSize && string(head[magicAt:magicAt+5]) == "ustar":
		return Tar(ctx, in, opt)
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, fmt.Errorf("%w: reading gzip: %w", ErrArchive, err)
		}
		return Tar(ctx, z, opt)
	case bytes.HasPrefix(head, []byte("BZh")) && opt.Bzip2 != nil:
		return Tar(ctx, opt.Bzip2(in), opt)
	case bytes.HasPrefix(text, []byte("{")):
		return document(in)
	}
	more := ""
	if opt.Bzip2 != nil {
		more = " or bzip2"
	}
	for _, f := range unread {
		if bytes.HasPrefix(head, []byte(f.magic)) {
			return nil, fmt.Errorf("%w: it has the form %s: tar, also with gzip%s, and JSON are supported", ErrArchive, f.name, more)
		}
	}
	return Tar(ctx, in, opt)
}

// document reads a state that comes without an archive.
func document(r io.Reader) (*state.State, error) {
	doc, err := bounded.Read(r, canon.MaxSize)
	if err != nil {
		return nil, fmt.Errorf("%w: reading a state: %w", ErrArchive, err)
	}
	st, err := state.Parse(doc)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	return st, nil
}

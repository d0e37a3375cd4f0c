package cpio

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/formats/tree"
)

// ErrFormat is wrapped by every error about bytes that are not a newc archive.
var ErrFormat = errors.New("not a newc archive")

// Reader reads one archive from front to end.
type Reader struct {
	r    *bufio.Reader
	left int64 // content and padding not yet consumed
	body *io.LimitedReader
	at   int64 // how much of the archive has been read, with what is left
}

// NewReader reads from r, which it buffers.
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReader(r)} }

// Header describes one name in an archive. Its Open is nil: the content comes from
// [Reader.Read]. Names with one inode number and more than one link are one file.
type Header struct {
	tree.Entry
	Inode, Links uint32
	// Start is where the header begins in the archive, Offset where the content of a regular
	// file does, in bytes.
	Start, Offset int64
}

// Next goes to the next entry; the directory that all are in may be one, ".". It returns io.EOF at the trailer and an
// [ErrFormat] for anything that is not an archive.
func (r *Reader) Next() (*Header, error) {
	if _, err := io.CopyN(io.Discard, r.r, r.left); err != nil {
		return nil, fmt.Errorf("reading archive: %w", cutShort("content", err))
	}
	start := r.at
	h, nameLen, err := r.header()
	if err != nil {
		return nil, err
	}
	h.Start = start
	if h.Name, err = r.text(nameLen, (header+nameLen)%4); err != nil {
		return nil, err
	}
	h.Name = strings.TrimPrefix(strings.TrimSuffix(h.Name, "\x00"), "./")
	if h.Name == trailer {
		return nil, io.EOF
	}
	if h.Name == "." && h.Mode.IsDir() { // as "find . | cpio -o" has it
		return h, r.open(h)
	}
	if err := checkName(h.Name); err != nil {
		return nil, fmt.Errorf("reading archive: %w: %w", err, ErrFormat)
	}
	return h, r.open(h)
}

// Read reads the content of the regular file that Next returned last.
func (r *Reader) Read(p []byte) (int, error) {
	if r.body == nil {
		return 0, io.EOF
	}
	n, err := r.body.Read(p)
	r.left -= int64(n)
	return n, err
}

// Position returns how many bytes of the archive are before what Next reads, the trailer
// included.
func (r *Reader) Position() int64 { return r.at }

func (r *Reader) open(h *Header) error {
	r.body, r.left = nil, 0
	if h.Mode.Type() == fs.ModeSymlink {
		if h.Size == 0 || h.Size > maxName {
			return fmt.Errorf("reading archive: link %q has %d bytes: %w", h.Name, h.Size, ErrFormat)
		}
		var err error
		h.Link, err = r.text(int(h.Size), int(h.Size%4))
		h.Size = 0
		return err
	}
	r.body = &io.LimitedReader{R: r.r, N: h.Size}
	r.left = h.Size + int64(len(zeros(int(h.Size%4))))
	h.Offset = r.at
	r.at += r.left
	return nil
}

func (r *Reader) header() (*Header, int, error) {
	var raw [header]byte
	if _, err := io.ReadFull(r.r, raw[:]); err != nil {
		return nil, 0, fmt.Errorf("reading archive: %w", cutShort("header", err))
	}
	r.at += int64(header)
	var f [13]uint32
	for i := range f {
		var b [4]byte
		if _, err := hex.Decode(b[:], raw[6+8*i:14+8*i]); err != nil {
			return nil, 0, fmt.Errorf("reading archive: header field %d is not a number: %w", i, ErrFormat)
		}
		f[i] = uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	}
	if string(raw[:6]) != magic || f[fieldName] < 2 || f[fieldName] > maxName+1 {
		return nil, 0, fmt.Errorf("reading archive: header with magic %q and a name of %d bytes: %w", raw[:6], f[fieldName], ErrFormat)
	}
	h := &Header{Inode: f[0], Links: f[fieldLinks], Entry: tree.Entry{
		Mode: tree.FileMode(f[1]), UID: f[2], GID: f[3], ModTime: time.Unix(int64(f[fieldTime]), 0),
		Size: int64(f[fieldSize]), Major: f[fieldMajor], Minor: f[fieldMinor],
	}}
	return h, int(f[fieldName]), nil
}

// cutShort returns the error about a part of the archive that could not be read: at the end of the
// input that is one about the format.
func cutShort(what string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = ErrFormat
	}
	return fmt.Errorf("%s is cut short: %w", what, err)
}

// text reads n bytes and the padding that follows them.
func (r *Reader) text(n, over int) (string, error) {
	b := make([]byte, n+len(zeros(over)))
	if _, err := io.ReadFull(r.r, b); err != nil {
		return "", fmt.Errorf("reading archive: %w", cutShort("name", err))
	}
	r.at += int64(len(b))
	return string(b[:n]), nil
}

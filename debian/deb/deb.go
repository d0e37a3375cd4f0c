// Package deb reads Debian binary packages: an ar archive of debian-binary, control.tar.*
// and data.tar.*, deb(5). It streams, keeps nothing in memory beyond the decompressor's
// window, and does not trust the file.
package deb

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"github.com/pantavisor/pantavisor/internal/decompress"
)

// ErrFormat is in the chain of every error about a file that is not a Debian package or
// is damaged.
var ErrFormat = errors.New("not a Debian package, or damaged")

func malformed(format string, args ...any) error {
	return fmt.Errorf("reading a package: %s: %w", fmt.Sprintf(format, args...), ErrFormat)
}

// Limits on the resources that reading a package may use.
const (
	// MaxData bounds the decompressed data, in bytes.
	MaxData = 8 << 30
	// MaxEntries bounds the number of files in a package.
	MaxEntries = 1 << 20
)

// openData finds the data archive of the package in r and returns it decompressed as
// a tar stream. Close it to free the decompressor.
func openData(r io.Reader) (io.ReadCloser, error) {
	member, err := newMembers(r)
	if err != nil {
		return nil, err
	}
	for {
		name, body, err := member.next()
		if errors.Is(err, io.EOF) {
			return nil, malformed("it has no data.tar")
		}
		if err != nil {
			return nil, err
		}
		if suffix, ok := strings.CutPrefix(name, "data.tar"); ok {
			return open(suffix, body)
		}
	}
}

// members iterates over an ar archive as Debian writes it: 16-byte names, no symbol
// table.
type members struct {
	r    *bufio.Reader
	left *io.LimitedReader
	odd  bool
}

const (
	magic      = "!<arch>\n"
	headerSize = 60
)

func newMembers(r io.Reader) (*members, error) {
	m := &members{r: bufio.NewReaderSize(r, 1<<16)}
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(m.r, head); err != nil || string(head) != magic {
		return nil, malformed("it is not an ar archive")
	}
	name, body, err := m.next()
	if err != nil || name != "debian-binary" {
		return nil, malformed("it does not begin with debian-binary")
	}
	version, err := io.ReadAll(io.LimitReader(body, 64))
	if err != nil || !strings.HasPrefix(string(version), "2.") {
		return nil, malformed("format version %q", version)
	}
	return m, nil
}

func (m *members) next() (string, io.Reader, error) {
	if err := m.skip(); err != nil {
		return "", nil, err
	}
	header := make([]byte, headerSize)
	if _, err := io.ReadFull(m.r, header); err != nil {
		if errors.Is(err, io.EOF) {
			return "", nil, io.EOF
		}
		return "", nil, malformed("truncated ar header")
	}
	size, err := strconv.ParseInt(strings.TrimRight(string(header[48:58]), " "), 10, 64)
	if err != nil || size < 0 || string(header[58:]) != "`\n" {
		return "", nil, malformed("bad ar header")
	}
	m.left = &io.LimitedReader{R: m.r, N: size}
	m.odd = size%2 == 1
	return strings.TrimRight(strings.TrimRight(string(header[:16]), " "), "/"), m.left, nil
}

// skip skips the rest of a member and its padding.
func (m *members) skip() error {
	if m.left == nil {
		return nil
	}
	left := m.left.N
	if m.odd {
		left++
	}
	if n, err := io.CopyN(io.Discard, m.r, left); err != nil && !(m.odd && n == left-1) {
		return malformed("truncated member")
	}
	return nil
}

// open returns the content of a data archive by the suffix of its name: "" for one that is
// not compressed.
func open(suffix string, r io.Reader) (io.ReadCloser, error) {
	z, err := decompress.Reader(r)
	if err != nil {
		return nil, malformed("data.tar%s: %v", suffix, err)
	}
	if decompress.Compressed(z) == (suffix == "") {
		z.Close()
		return nil, malformed("data.tar%s is not what the suffix of its name says", suffix)
	}
	return z, nil
}

// walk calls f for each file of a data archive, with its cleaned path relative to
// the root ("usr/bin/xz"; the root itself is left out) and, for regular files, its
// content in body. A name that points outside the root is an error.
func walk(data io.Reader, f func(name string, h *tar.Header, body io.Reader) error) error {
	t := tar.NewReader(&io.LimitedReader{R: data, N: MaxData})
	for range MaxEntries {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return malformed("data archive: %v", err)
		}
		name, err := clean(h.Name)
		if err != nil {
			return err
		}
		if name == "." {
			continue
		}
		if err := f(name, h, t); err != nil {
			return err
		}
	}
	return malformed("more than %d files", MaxEntries)
}

// clean returns the name relative to the root, or an error when it is not below it.
func clean(name string) (string, error) {
	if name == "" || len(name) > 4096 || strings.ContainsRune(name, 0) {
		return "", malformed("bad file name %.40q", name)
	}
	for _, part := range strings.Split(name, "/") {
		if part == ".." {
			return "", malformed("file name %.80q points outside the root", name)
		}
	}
	return path.Clean(strings.TrimLeft(path.Clean(name), "/")), nil
}

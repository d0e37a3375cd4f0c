// Package unpack reads exports (package archive has the format). It takes a stream as
// hostile: names, types and sizes are checked and memory is bounded. What becomes of the
// objects is the caller's affair, so that host and device share it; it imports nothing
// that is too large for a device.
package unpack

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
)

// ErrArchive is wrapped by the errors for archives that are damaged or hostile.
var ErrArchive = errors.New("unusable archive")

// ErrNotTar is wrapped, beside ErrArchive, by the error for a stream that does not begin as
// a tar stream does.
var ErrNotTar = errors.New("not a tar stream")

// Bounds of what an archive may hold beside the state and its objects.
const (
	maxForeign  = 8 << 30 // bytes
	maxMembers  = 1 << 18
	maxTrailing = 1 << 20 // bytes behind the end of the tar stream: its padding
)

// Options say what becomes of the objects.
type Options struct {
	// Put takes an object; it must read all of r, which has size bytes, and compare its
	// SHA-256 with sum. An error that does not come from r, and is not an
	// [objects.ErrMismatch], is taken for one of the place where objects go.
	Put func(r io.Reader, sum string, size int64) error
	// Want reports whether the objects of a key are taken; nil takes those of all keys.
	// It has no effect on objects that come before the state in the archive.
	Want func(key string) bool
	// Named leaves out objects behind the state that it does not name.
	Named bool
	// Foreign bounds the bytes of all members that the state does not name; default
	// 8 GiB. Objects that it names may be as large as the place where they go allows.
	Foreign int64
	// Bzip2 is bzip2.NewReader in a program that has it, nil in one for which its 30 KB are too
	// much.
	Bzip2 func(io.Reader) io.Reader
}

// Tar reads a tar stream that is not compressed, to its end, and returns the state in it.
// An object may occur once for each path that the state has for it, because older tools
// write it so; a second state is an error. Members other than the state and objects are
// ignored.
func Tar(ctx context.Context, stream io.Reader, opt Options) (*state.State, error) {
	if opt.Foreign == 0 {
		opt.Foreign = maxForeign
	}
	u := &unpacker{opt: opt}
	if err := u.read(ctx, stream); err != nil {
		return nil, err
	}
	return u.state, nil
}

type unpacker struct {
	opt     Options
	state   *state.State
	named   map[string]*named // by SHA-256; nil before the state
	foreign int64             // bytes of members that the state does not name
	count   int               // of these members
}

// named is an object that the state names.
type named struct {
	left int  // members that may hold it: one for each path
	want bool // a path of it is wanted
}

func (u *unpacker) read(ctx context.Context, stream io.Reader) error {
	tr := tar.NewReader(stream)
	last, end := "its beginning", ""
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			if end == "" && (errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF)) {
				return fmt.Errorf("%w: %w: %w", ErrArchive, ErrNotTar, err)
			}
			return fmt.Errorf("%w: reading on behind %s: %w", ErrArchive, last, err)
		}
		last, end = fmt.Sprintf("%.200q", h.Name), "the last member "
		err = u.member(h, tr)
		var own *storeError
		if errors.As(err, &own) {
			return fmt.Errorf("storing the archive's member %s: %w", last, own.error)
		}
		if err != nil {
			return fmt.Errorf("%w: member %s: %w", ErrArchive, last, err)
		}
	}
	if err := drain(stream); err != nil {
		return fmt.Errorf("%w: behind %s%s: %w", ErrArchive, end, last, err)
	}
	if u.state == nil {
		return fmt.Errorf("%w: it has no member \"json\"", ErrArchive)
	}
	return nil
}

// drain reads the padding up to the end, where a compressed stream has its checksum.
func drain(r io.Reader) error {
	n, err := io.Copy(io.Discard, io.LimitReader(r, maxTrailing+1))
	if err == nil && n > maxTrailing {
		err = fmt.Errorf("more than %d bytes", maxTrailing)
	}
	return err
}

// member reads one member of the archive.
func (u *unpacker) member(h *tar.Header, r io.Reader) error {
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return u.admit(0)
	case tar.TypeReg:
	default:
		return fmt.Errorf("type %q: only files and directories are allowed", h.Typeflag)
	}
	if sparse(h) {
		return errors.New("a sparse file: its size is not that of its data")
	}
	switch dir, base := path.Split(name); {
	case name == "json":
		return u.document(h.Size, r)
	case dir == "objects/":
		return u.object(base, h.Size, r)
	}
	return u.admit(h.Size)
}

// sparse reports whether a header describes a file with holes in the form of GNU tar's
// extended headers, whose size is not bounded by that of the archive.
func sparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// admit counts a member that the state does not name.
func (u *unpacker) admit(size int64) error {
	if u.count++; u.count > maxMembers {
		return fmt.Errorf("more than %d members that the state does not name", maxMembers)
	}
	if size > u.opt.Foreign-u.foreign {
		return fmt.Errorf("the archive holds more than %d bytes that the state does not name", u.opt.Foreign)
	}
	u.foreign += size
	return nil
}

// cleanName rejects names that lead anywhere but into the archive's own tree.
func cleanName(name string) (string, error) {
	trimmed := strings.TrimSuffix(strings.TrimPrefix(name, "./"), "/")
	if trimmed == "" || trimmed == "." {
		return ".", nil
	}
	if path.IsAbs(name) || strings.ContainsRune(name, 0) || path.Clean(trimmed) != trimmed || trimmed == ".." || strings.HasPrefix(trimmed, "../") {
		return "", errors.New("a clean relative name is expected")
	}
	return trimmed, nil
}

func (u *unpacker) document(size int64, r io.Reader) error {
	if u.state != nil {
		return errors.New("a second state")
	}
	if size > canon.MaxSize {
		return fmt.Errorf("%d bytes; a state has at most %d", size, canon.MaxSize)
	}
	doc, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if u.state, err = state.Parse(doc); err != nil {
		return err
	}
	u.named = map[string]*named{}
	for _, o := range u.state.Objects() {
		n := u.named[o.Sum]
		if n == nil {
			n = &named{}
			u.named[o.Sum] = n
		}
		n.left++
		n.want = n.want || u.opt.Want == nil || u.opt.Want(o.Path)
	}
	return nil
}

func (u *unpacker) object(sum string, size int64, r io.Reader) error {
	if !state.IsSum(sum) {
		return objects.ErrName
	}
	switch n := u.named[sum]; {
	case n == nil || n.left == 0:
		if err := u.admit(size); err != nil {
			return err
		}
		if n == nil && u.state != nil && u.opt.Named {
			return nil
		}
	case !n.want:
		return nil
	default:
		n.left--
	}
	from := &source{r: r}
	err := u.opt.Put(from, sum, size)
	if err != nil && from.err == nil && !errors.Is(err, objects.ErrMismatch) {
		return &storeError{err}
	}
	return err
}

// storeError is a local error that the archive did not cause.
type storeError struct{ error }

// Unwrap returns the error itself.
func (e *storeError) Unwrap() error { return e.error }

// source records the error that ended reading early.
type source struct {
	r   io.Reader
	err error
}

// Read implements io.Reader.
func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// Package store keeps files of pipelines under names, in a directory or in a bucket of S3 (Amazon's
// or another server's): recipes, images, exports, catalogues. Small files are changed by
// compare-and-swap, so that of two pipelines that change the same file at once none loses anything;
// large ones are uploaded from files whose SHA-256 is known.
//
// A reader sees the old or the new content of a file, never a part, also after a kill.
package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"strings"
	"time"
	"unicode"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Conditions of [Store.Put] that are not the version that [Store.Get] returned.
const (
	Any    = ""  // replace what is there
	Absent = "-" // there must be no such file
)

// errChanged is wrapped by errors for a file that has another version than the condition says.
var errChanged = errors.New("it was changed meanwhile")

// Entry is a file of a store.
type Entry struct {
	Name string `json:"name"`
	Size int64  `json:"size"` // in bytes
}

// Object is a file that is open for reading. What it embeds is an io.ReadSeeker, too.
type Object struct {
	io.ReadCloser
	Size int64 // in bytes

	version string // "" when that is the SHA-256 of the content
}

// content is what a backend writes.
type content struct {
	io.ReadSeeker
	size   int64
	sha256 string // in hex; "" when it is not known
	mime   string
}

// backend is a place for files. Names are valid. The errors of open for a file that is not there
// wrap fs.ErrNotExist, those of put for a condition that does not hold wrap errChanged.
type backend interface {
	open(ctx context.Context, name string) (*Object, error)
	put(ctx context.Context, name string, c content, condition string) (version string, err error)
	// digest returns the SHA-256 of a file in hex, "" when it cannot be told without reading it.
	digest(ctx context.Context, name string) (string, error)
	list(ctx context.Context, prefix string) ([]Entry, error)
	remove(ctx context.Context, name string) error
}

// Store is a place for files.
type Store struct {
	backend backend
	where   string
	base    string
}

// Open opens the store at a place: s3://BUCKET/PREFIX, or a directory, which is made by the first file.
// The settings of S3 are those of the environment env, in the form of os.Environ (docs/pipelines.md).
func Open(place string, env []string) (*Store, error) {
	switch scheme, rest, _ := strings.Cut(place, "://"); {
	case place == "":
		return nil, fault.New(fault.BadInput, "the place of the store is empty: name a directory, or s3://BUCKET/PREFIX")
	case !strings.Contains(place, "://"):
		return &Store{backend: &directory{place}, where: place}, nil
	case scheme == "s3":
		b, err := openBucket(rest, env)
		if err != nil {
			return nil, fault.Wrap(fault.BadInput, err, "opening %s", place)
		}
		return &Store{backend: b, where: place, base: b.base()}, nil
	default:
		return nil, fault.New(fault.Unsupported, "%s cannot be a store: it is a directory, or s3://BUCKET/PREFIX", place)
	}
}

// String returns the place of the store.
func (s *Store) String() string { return s.where }

// URL returns the address at which a public store has a file, "" for a directory.
func (s *Store) URL(name string) string {
	if s.base == "" {
		return ""
	}
	return s.base + "/" + escape(name)
}

// maxName bounds a name, in bytes; S3 has this limit.
const maxName = 1024

// checkName returns an error for a name that a file cannot have: names are relative paths with '/',
// without control characters and backslashes, and no part of them begins with '.'.
func checkName(name string) error {
	bad := func(c rune) bool { return c == '\\' || unicode.IsControl(c) || c == unicode.ReplacementChar }
	if !fs.ValidPath(name) || len(name) > maxName-64 || strings.HasPrefix(name, ".") || strings.Contains(name, "/.") || strings.ContainsFunc(name, bad) {
		return fault.New(fault.BadInput, "%.100q is not a valid name of a file in a store: it must be a relative path without control characters, and no part of it may begin with a dot", name)
	}
	return nil
}

// Open opens a file. The error for one that is not there wraps fs.ErrNotExist.
func (s *Store) Open(ctx context.Context, name string) (*Object, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	o, err := s.backend.open(ctx, name)
	return o, fault.Wrap(fault.IO, err, "reading %s in %s", name, s.where)
}

// Get returns the content of a file of at most limit bytes, and its version for [Store.Put]. When
// there is none, the version is [Absent], and the error wraps fs.ErrNotExist.
func (s *Store) Get(ctx context.Context, name string, limit int64) ([]byte, string, error) {
	o, err := s.Open(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, Absent, err
	}
	if err != nil {
		return nil, "", err
	}
	data, err := bounded.ReadSized(o, o.Size, limit)
	if err := errors.Join(err, o.Close()); err != nil {
		return nil, "", fault.Wrap(fault.IO, err, "reading %s in %s", name, s.where)
	}
	if o.version == "" {
		o.version, err = sumOf(ctx, bytes.NewReader(data))
	}
	return data, o.version, err
}

// Put writes a file if it has the version that [Store.Get] returned, or as [Any] and [Absent] say,
// and returns its new version. The error wraps errChanged when it has another one.
func (s *Store) Put(ctx context.Context, name string, data []byte, condition string) (string, error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	c := content{ReadSeeker: bytes.NewReader(data), size: int64(len(data)), mime: MIMEType(name)}
	version, err := s.backend.put(ctx, name, c, condition)
	return version, fault.Wrap(fault.IO, err, "writing %s in %s", name, s.where)
}

// tries is how often [Store.Update] reads a file again that others change.
const tries = 40

// Update changes a file of at most limit bytes: edit gets its content, nil when there is none, and
// returns the new one. It is called again when the file was changed meanwhile, and also when it may
// have been written already; it must make the same of what it made. The same content is not written.
func (s *Store) Update(ctx context.Context, name string, limit int64, edit func(old []byte) ([]byte, error)) error {
	for try := range tries {
		old, version, err := s.Get(ctx, name, limit)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		data, err := edit(old)
		if err != nil {
			return err
		}
		if version != Absent && bytes.Equal(old, data) {
			return nil
		}
		if _, err = s.Put(ctx, name, data, version); !errors.Is(err, errChanged) {
			return err
		}
		if err := pause(ctx, try); err != nil {
			return err
		}
	}
	return fault.New(fault.Unreachable, "writing %s in %s: others have changed it each of %d times; run the command again", name, s.where, tries)
}

// pause waits for a random time that grows, so that those who collide do not do so again.
func pause(ctx context.Context, try int) error {
	most := min(time.Second, 5*time.Millisecond<<min(try, 8))
	select {
	case <-ctx.Done():
		return fault.Wrap(fault.Cancelled, context.Cause(ctx), "waiting")
	case <-time.After(rand.N(most)):
		return nil
	}
}

// File is a file of this machine for [Store.PutFile].
type File struct {
	Path   string
	SHA256 string // in hex; it is calculated when it is empty
	// Replace allows to replace another content. Default: that is an error of the kind fault.Different.
	Replace bool
}

// PutFile uploads a file, unless the store has the same one. It reports whether it was uploaded.
func (s *Store) PutFile(ctx context.Context, name string, f File) (uploaded bool, err error) {
	if err := checkName(name); err != nil {
		return false, err
	}
	sum, err := build.SumFile(ctx, f.Path)
	if err != nil {
		return false, fault.Wrap(fault.IO, err, "reading %s", f.Path)
	}
	if f.SHA256 != "" && sum != f.SHA256 {
		return false, fault.New(fault.Digest, "%s has the SHA-256 %s, and should have %s", f.Path, sum, f.SHA256)
	}
	f.SHA256 = sum
	uploaded, err = s.upload(ctx, name, f)
	return uploaded, fault.Wrap(fault.IO, err, "uploading %s to %s", name, s.where)
}

func (s *Store) upload(ctx context.Context, name string, f File) (uploaded bool, err error) {
	condition := Any
	if !f.Replace {
		condition = Absent
	}
	switch there, err := s.Digest(ctx, name); {
	case err == nil && there == f.SHA256:
		return false, nil
	case err == nil && !f.Replace:
		return false, fault.New(fault.Different, "the store has another file of this name, with the SHA-256 %s: what is published does not change", there)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return false, err
	}
	file, err := os.Open(f.Path)
	if err != nil {
		return false, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return false, err
	}
	_, err = s.backend.put(ctx, name, content{file, info.Size(), f.SHA256, MIMEType(name)}, condition)
	if errors.Is(err, errChanged) { // another pipeline was faster, which is well if it has the same
		if there, err2 := s.Digest(ctx, name); err2 == nil && there == f.SHA256 {
			return false, nil
		}
	}
	return err == nil, err
}

// Digest returns the SHA-256 of a file in hex. The error for one that is not there wraps fs.ErrNotExist.
func (s *Store) Digest(ctx context.Context, name string) (string, error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	sum, err := s.backend.digest(ctx, name)
	if err != nil || sum != "" {
		return sum, err
	}
	o, err := s.backend.open(ctx, name)
	if err != nil {
		return "", err
	}
	sum, err = sumOf(ctx, o)
	return sum, errors.Join(err, o.Close())
}

// List lists the files whose names begin with a prefix, sorted by name.
func (s *Store) List(ctx context.Context, prefix string) ([]Entry, error) {
	if name := strings.TrimSuffix(prefix, "/"); name != "" {
		if err := checkName(name); err != nil {
			return nil, err
		}
	}
	entries, err := s.backend.list(ctx, prefix)
	return entries, fault.Wrap(fault.IO, err, "listing %s", s.where)
}

// Delete removes a file. It is no error when it is not there.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	return fault.Wrap(fault.IO, s.backend.remove(ctx, name), "removing %s in %s", name, s.where)
}

// mimes are the types of files by the ends of their names, for browsers.
var mimes = map[string]string{
	".json": "application/json", ".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".txt": "text/plain; charset=utf-8",
	".gz": "application/gzip", ".tgz": "application/gzip", ".xz": "application/x-xz", ".zst": "application/zstd",
}

// MIMEType returns the type of a file.
func MIMEType(name string) string {
	if mime, ok := mimes[path.Ext(name)]; ok {
		return mime
	}
	return "application/octet-stream"
}

// missing is the error for a file that is not there.
func missing() error { return fault.New(fault.Missing, "%w", fs.ErrNotExist) }

// changed is the error for a condition that does not hold.
func changed() error { return fmt.Errorf("the file has another version: %w", errChanged) }

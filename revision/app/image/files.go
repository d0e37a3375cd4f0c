package image

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/pantavisor/pantavisor/internal/ctxio"
	"github.com/pantavisor/pantavisor/internal/decompress"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/scratch"
)

// files are the regular files of a layout or archive, by their paths within it.
type files interface {
	// open returns a file. The error wraps fs.ErrNotExist when there is none.
	open(name string) (io.ReadCloser, error)
}

// maxDocument bounds manifests, indexes and configurations, in bytes: they are read into
// memory.
const maxDocument = 16 << 20

// document returns the content of a small file.
func document(f files, name string) ([]byte, error) {
	r, err := f.open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	text, err := io.ReadAll(&bounded{r, maxDocument})
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return text, nil
}

// blobPath returns where a layout has the blob of a digest (OCI image specification,
// image-layout.md, "Blobs").
func blobPath(h v1.Hash) (string, error) {
	if h.Algorithm != "sha256" || len(h.Hex) != hex.EncodedLen(sha256.Size) {
		return "", fault.New(fault.Unsupported, "digest %.100q: sha256 is expected", h.String())
	}
	return path.Join("blobs", h.Algorithm, h.Hex), nil
}

// blob returns a small blob of a layout, which must have its digest.
func blob(f files, h v1.Hash) ([]byte, error) {
	name, err := blobPath(h)
	if err != nil {
		return nil, err
	}
	text, err := document(f, name)
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	sum.Write(text)
	if err := compare(sum, h.Hex); err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return text, nil
}

// directory is the directory of a layout. Links in it do not lead out of it.
type directory struct{ *os.Root }

func (d directory) open(name string) (io.ReadCloser, error) {
	info, err := d.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	return d.Open(name)
}

// members are the members of a tar archive, which are read in any order.
type members struct {
	file    io.ReaderAt
	extents map[string]extent
	links   map[string]string // other names of members
}

type extent struct{ at, size int64 }

const (
	maxMembers = 1 << 16 // of an archive: an image has at most maxLayers layers
	maxLinks   = 8       // that lead to each other
)

// list reads the headers of an archive, which [Image.Close] closes.
func (i *Image) list(ctx context.Context, f *os.File) (*members, error) {
	i.onClose(func() { _ = f.Close() })
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	m := &members{f, map[string]extent{}, map[string]string{}}
	tr := tar.NewReader(f) // it seeks over contents and reads nothing ahead
	for range maxMembers {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return m, nil
		}
		if err == nil {
			err = errors.Join(m.add(h, f), ctx.Err())
		}
		if err != nil {
			return nil, fmt.Errorf("reading the archive: %w", err)
		}
	}
	return nil, fault.New(fault.Unsupported, "it has more than %d members", maxMembers)
}

// add takes up a member, at whose content f is.
func (m *members) add(h *tar.Header, f io.Seeker) error {
	name := path.Clean(h.Name)
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont:
	case tar.TypeSymlink:
		m.links[name] = path.Join(path.Dir(name), h.Linkname)
		return nil
	case tar.TypeLink:
		m.links[name] = path.Clean(h.Linkname)
		return nil
	case tar.TypeGNUSparse:
		return sparse(h.Name)
	default:
		return nil
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return sparse(h.Name)
		}
	}
	at, err := f.Seek(0, io.SeekCurrent)
	m.extents[name] = extent{at, h.Size}
	delete(m.links, name)
	return err
}

func sparse(name string) error {
	return fault.New(fault.Unsupported, "the member %.200q is sparse: write the archive without --sparse", name)
}

func (m *members) open(name string) (io.ReadCloser, error) {
	name = path.Clean(name)
	for range maxLinks {
		if e, ok := m.extents[name]; ok {
			return io.NopCloser(io.NewSectionReader(m.file, e.at, e.size)), nil
		}
		to, ok := m.links[name]
		if !ok {
			break
		}
		name = to
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// has reports whether the archive has a file.
func (m *members) has(name string) bool {
	r, err := m.open(name)
	if err != nil {
		return false
	}
	_ = r.Close()
	return true
}

// openArchive opens an archive, plain or compressed: a compressed one is decompressed to a
// temporary file, since its members are read in any order.
func (i *Image) openArchive(ctx context.Context, path string) (*members, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r, err := decompress.Reader(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if !decompress.Compressed(r) {
		return i.list(ctx, f)
	}
	plain, err := i.spool(&bounded{ctxio.Reader(ctx, r), i.opts.limit()})
	if err = errors.Join(err, r.Close(), f.Close()); err != nil {
		return nil, err
	}
	return i.list(ctx, plain)
}

// spool writes a stream to a temporary file that [Image.Close] removes.
func (i *Image) spool(r io.Reader) (*os.File, error) {
	dir, err := scratch.New("pvr-image-")
	if err != nil {
		return nil, err
	}
	i.onClose(dir.Remove)
	f, err := os.Create(filepath.Join(dir.Path, "image.tar"))
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(f, r); err != nil {
		return nil, errors.Join(fmt.Errorf("writing the image to a temporary file: %w", err), f.Close())
	}
	return f, nil
}

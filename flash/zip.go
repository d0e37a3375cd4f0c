package flash

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/pantavisor/pantavisor/formats/bmap"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// OpenArchive is [Open] for an image that may also be the one in a zip archive, with its block
// map in the archive or beside it. It is apart from [Open] for programs that need to be small.
func OpenArchive(ctx context.Context, path string) (*Image, error) { return open(ctx, path, unzip) }

// unzip opens the only image of a zip archive.
func unzip(f *os.File) (io.ReadCloser, *bmap.Map, error) {
	magic := make([]byte, 4)
	if _, err := f.ReadAt(magic, 0); err != nil || !bytes.Equal(magic, []byte("PK\x03\x04")) {
		return nil, nil, nil //nolint:nilerr // it is too short for an archive, or read later
	}
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	archive, err := zip.NewReader(f, info.Size())
	if err != nil {
		return nil, nil, fault.New(fault.BadInput, "reading zip: %w; it is damaged or was cut", err)
	}
	image, table, err := chooseEntry(archive)
	if err != nil {
		return nil, nil, err
	}
	var m *bmap.Map
	if table != nil {
		if m, err = readMap(table); err != nil {
			return nil, nil, fault.Wrap(fault.BadInput, err, "reading %q of the archive", table.Name)
		}
	}
	r, err := image.Open()
	if err != nil {
		return nil, nil, fault.New(fault.Unsupported, "reading %q of the archive: %w", image.Name, err)
	}
	return r, m, nil
}

// chooseEntry returns the only file of an archive, and a map beside it, if any. What macOS adds
// is passed over.
func chooseEntry(archive *zip.Reader) (image, table *zip.File, err error) {
	var names []string
	for _, f := range archive.File {
		switch base := path.Base(f.Name); {
		case f.FileInfo().IsDir(), strings.HasPrefix(f.Name, "__MACOSX/"), strings.HasPrefix(base, "._"):
		case strings.HasSuffix(base, ".bmap") && table == nil:
			table = f
		default:
			image, names = f, append(names, f.Name)
		}
	}
	switch {
	case len(names) == 0:
		return nil, nil, fault.New(fault.BadInput, "the archive has no image")
	case len(names) > 1:
		return nil, nil, fault.New(fault.BadInput, "the archive has %d files, %s: it is not known which is the image; unpack it and name the image", len(names), some(names))
	case image.Flags&1 != 0:
		return nil, nil, fault.New(fault.Unsupported, "%q of the archive is encrypted: unpack it first", image.Name)
	}
	return image, table, nil
}

// some quotes the first of some names, and says how many more there are.
func some(names []string) string {
	const most, length = 3, 100
	var b strings.Builder
	for i, name := range names[:min(len(names), most)] {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%.*q", length, name)
	}
	if more := len(names) - most; more > 0 {
		fmt.Fprintf(&b, " and %d more", more)
	}
	return b.String()
}

func readMap(f *zip.File) (m *bmap.Map, err error) {
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return bmap.Read(r)
}

package releases

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/ctxio"
	"github.com/pantavisor/pantavisor/internal/decompress"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/filelock"
	"github.com/pantavisor/pantavisor/internal/signing"
)

// maxMap bounds a block map, in bytes.
const maxMap = 64 << 20

// keepDownloads is for how long downloads are kept that nobody uses.
const keepDownloads = 30 * 24 * time.Hour

// Image returns the path of the image of a release, downloaded below dir if it is not on this machine,
// with its block map beside it. With a key, the release must be signed with it.
func (p *Place) Image(ctx context.Context, dir string, f *Found, key *signing.Public, progress func(done, total int64)) (string, error) {
	sweep(dir)
	if f.Release == nil {
		if key != nil {
			return "", fault.New(fault.Missing, "%s %s is not signed: another program has added it to the catalogue", f.Name, f.Version)
		}
		return p.fullImage(ctx, dir, f, progress)
	}
	if key != nil {
		if _, err := p.Verify(ctx, f.Release, key); err != nil {
			return "", err
		}
	}
	x, err := p.Index(ctx, &f.Device, f.Version)
	if err != nil {
		return "", err
	}
	_, image := x.Image()
	if image == nil {
		return "", fault.New(fault.Unsupported, "%s %s has no image of a disk", f.Name, f.Version)
	}
	file, err := p.Fetch(ctx, dir, Download{
		Ref: Beside(f.Release.URL, image.Name), Name: path.Base(image.Name), SHA256: image.SHA256, Bytes: image.Bytes, Progress: progress,
	})
	if m := x.Map(); err == nil && m != nil {
		err = p.mapBeside(ctx, file, f.Release.URL, m)
	}
	return file, err
}

// mapBeside puts the block map beside an image that was downloaded.
func (p *Place) mapBeside(ctx context.Context, image, index string, m *File) error {
	to := filepath.Join(filepath.Dir(image), path.Base(m.Name))
	if compareFile(ctx, to, m.SHA256) == nil {
		return nil
	}
	text, err := p.ReadLink(ctx, &Link{Beside(index, m.Name), m.SHA256}, maxMap)
	if err != nil {
		return err
	}
	return fault.Wrap(fault.IO, atomicfile.Replace(to, text, 0o644), "writing the block map")
}

// imageEnds are the ends of names of images in archives of other programs; a compression may follow.
var imageEnds = []string{".img", ".wic", ".sdimg", ".sdcard", ".rpi-sdimg"}

// isImage reports whether a name is that of an image.
func isImage(name string) bool {
	for _, c := range compressions {
		name = strings.TrimSuffix(name, c)
	}
	return slices.ContainsFunc(imageEnds, func(end string) bool { return strings.HasSuffix(name, end) })
}

// fullImage returns the image in the archive of a release of another program.
func (p *Place) fullImage(ctx context.Context, dir string, f *Found, progress func(done, total int64)) (string, error) {
	if f.FullImage == nil {
		return "", fault.New(fault.Unsupported, "%s %s has no image in the catalogue", f.Name, f.Version)
	}
	archive, err := p.Fetch(ctx, dir, Download{Ref: f.FullImage.URL, Name: "full_image.tar.gz", SHA256: f.FullImage.SHA256, Progress: progress})
	if err != nil {
		return "", err
	}
	own := filepath.Join(dir, f.FullImage.SHA256)
	if err := os.MkdirAll(own, 0o755); err != nil {
		return "", fault.Wrap(fault.IO, err, "unpacking the image")
	}
	lock, err := filelock.Acquire(ctx, filepath.Join(own, ".lock"), filelock.Options{Create: 0o644})
	if err != nil {
		return "", fault.Wrap(fault.IO, err, "unpacking the image")
	}
	defer lock.Unlock()
	to := filepath.Join(own, "unpacked")
	if _, err := os.Stat(to); errors.Is(err, fs.ErrNotExist) {
		if err := unpack(ctx, archive, to); err != nil {
			return "", fault.Wrap(fault.IO, err, "unpacking %s", archive)
		}
	}
	entries, err := os.ReadDir(to)
	if err != nil {
		return "", fault.Wrap(fault.IO, err, "unpacking the image")
	}
	var images []string
	for _, e := range entries {
		if isImage(e.Name()) {
			images = append(images, filepath.Join(to, e.Name()))
		}
	}
	if len(images) != 1 {
		return "", fault.New(fault.Unsupported, "the archive of %s %s has %d images: unpack %s, and name one of them", f.Name, f.Version, len(images), archive)
	}
	return images[0], nil
}

// unpack unpacks images and block maps of an archive into a new directory.
func unpack(ctx context.Context, archive, to string) error {
	work := to + ".part"
	if err := errors.Join(os.RemoveAll(work), os.Mkdir(work, 0o755)); err != nil {
		return err
	}
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := decompress.Reader(ctxio.Reader(ctx, f))
	if err != nil {
		return err
	}
	defer z.Close()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return os.Rename(work, to)
		}
		if err != nil {
			return fault.Wrap(fault.BadInput, err, "reading the archive")
		}
		name := path.Base(h.Name)
		if h.Typeflag != tar.TypeReg || !validName(name) || !isImage(strings.TrimSuffix(name, ".bmap")) {
			continue
		}
		if err := writeNew(filepath.Join(work, name), r); err != nil {
			return err
		}
	}
}

// writeNew writes a file that must not be there yet.
func writeNew(name string, from io.Reader) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	if err == nil {
		err = f.Sync() // before the directory has its name, which says that all is there
	}
	return errors.Join(err, f.Close())
}

// sweep removes downloads that were not used for long. What it cannot remove stays.
func sweep(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		own := filepath.Join(dir, e.Name())
		if info, err := e.Info(); err != nil || !isDigest(e.Name()) || time.Since(info.ModTime()) < keepDownloads {
			continue
		}
		if lock, err := filelock.Try(filepath.Join(own, ".lock"), filelock.Options{Create: 0o644}); err == nil {
			_ = os.RemoveAll(own)
			lock.Unlock()
		}
	}
}

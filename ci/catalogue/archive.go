package catalogue

import (
	"archive/tar"
	"archive/zip"
	"context"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/pgzip"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/ci/releases"
	"github.com/pantavisor/pantavisor/ci/store"
	"github.com/pantavisor/pantavisor/internal/ctxio"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Archives are those that other programs look for in a catalogue. The same release has the same ones.

// archiveTime is the time of their entries, the first that a zip can have.
var archiveTime = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

func (r *release) fullImageName() string { return r.index.Target + "-" + r.index.Version + ".tar.gz" }

func (r *release) exportsName() string {
	return r.index.Target + "-" + r.index.Version + "-exports.zip"
}

// archives makes and uploads the archives. One whose files are not there is nil.
func (r *release) archives(ctx context.Context, s *store.Store, out *Added) (image, exports *releases.File, err error) {
	dir, err := os.MkdirTemp("", "pvci-")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(dir)
	if plain, _ := r.index.Image(); plain != nil {
		members := []*releases.File{plain}
		if m := r.index.Map(); m != nil {
			members = append(members, m)
		}
		image, err = r.archive(ctx, s, out, filepath.Join(dir, r.fullImageName()), func(w io.Writer) error { return r.tar(ctx, w, members) })
		if err != nil {
			return nil, nil, err
		}
	}
	var list []*releases.File
	for i := range r.index.Files {
		if f := &r.index.Files[i]; strings.HasSuffix(f.Name, ".pvr.tgz") {
			list = append(list, f)
		}
	}
	if len(list) > 0 {
		exports, err = r.archive(ctx, s, out, filepath.Join(dir, r.exportsName()), func(w io.Writer) error { return r.zip(ctx, w, list) })
	}
	return image, exports, err
}

// archive makes an archive and uploads it.
func (r *release) archive(ctx context.Context, s *store.Store, out *Added, file string, write func(w io.Writer) error) (*releases.File, error) {
	name := filepath.Base(file)
	f, err := os.Create(file)
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "making %s", name)
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		return nil, fault.Wrap(fault.IO, err, "making %s in %s (TMPDIR names another place)", name, os.TempDir())
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	sum, err := build.SumFile(ctx, file)
	if err != nil {
		return nil, err
	}
	return &releases.File{Name: name, Kind: "archive", Bytes: info.Size(), SHA256: sum}, r.put(ctx, s, out, name, file, sum)
}

// tar writes files as tar.gz, which does not depend on the number of processors.
func (r *release) tar(ctx context.Context, w io.Writer, files []*releases.File) error {
	z := pgzip.NewWriter(w)
	t := tar.NewWriter(z)
	for _, f := range files {
		err := t.WriteHeader(&tar.Header{Name: path.Base(f.Name), Mode: 0o644, Size: f.Bytes, ModTime: archiveTime, Format: tar.FormatPAX})
		if err == nil {
			err = r.copy(ctx, t, f.Name)
		}
		if err != nil {
			return errors.Join(err, z.Close())
		}
	}
	return errors.Join(t.Close(), z.Close())
}

// zip writes files, which are compressed, as a zip that does not compress them again.
func (r *release) zip(ctx context.Context, w io.Writer, files []*releases.File) error {
	z := zip.NewWriter(w)
	for _, f := range files {
		to, err := z.CreateHeader(&zip.FileHeader{Name: path.Base(f.Name), Method: zip.Store, Modified: archiveTime})
		if err == nil {
			err = r.copy(ctx, to, f.Name)
		}
		if err != nil {
			return err
		}
	}
	return z.Close()
}

// copy copies a file of the release.
func (r *release) copy(ctx context.Context, to io.Writer, name string) error {
	f, err := os.Open(filepath.Join(r.dir, filepath.FromSlash(name)))
	if err != nil {
		return err
	}
	_, err = io.Copy(to, ctxio.Reader(ctx, f))
	return errors.Join(err, f.Close())
}

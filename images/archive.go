package images

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"io"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/fault"
	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/state"
)

// ExportFile is the file in the output of an [Export].
const ExportFile = "export.pvr.tgz"

// Export is the step that packs a part as an export: a tar of "json" and the
// objects, compressed with gzip (manual: pvr export).
type Export struct {
	Part build.Step `json:"-"`
}

var (
	_ build.Step      = (*Export)(nil)
	_ build.Versioned = (*Export)(nil)
)

// Name of the step.
func (s *Export) Name() string { return "bsp/export" }

// Version of the step's logic.
func (s *Export) Version() int { return 1 }

// Deps is the part.
func (s *Export) Deps() []build.Step { return []build.Step{s.Part} }

// Run writes the archive; objects are sorted and each comes once. They are
// compressed already, so gzip stores more than it packs.
func (s *Export) Run(ctx context.Context, w *build.Work) error {
	dir := w.In(s.Part)
	st, err := readPart(dir)
	if err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(w.Out, ExportFile))
	if err != nil {
		return fault.Wrap(fault.IO, err, "exporting the BSP")
	}
	defer f.Close()
	b := bufio.NewWriterSize(f, 256<<10)
	z, err := gzip.NewWriterLevel(b, gzip.BestSpeed)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "exporting the BSP")
	}
	t := tar.NewWriter(z)
	if err := exportTo(ctx, t, dir, st); err != nil {
		return fault.Wrap(fault.IO, err, "exporting the BSP")
	}
	for _, end := range []func() error{t.Close, z.Close, b.Flush, f.Close} {
		if err := end(); err != nil {
			return fault.Wrap(fault.IO, err, "exporting the BSP")
		}
	}
	return nil
}

func exportTo(ctx context.Context, t *tar.Writer, dir string, st *state.State) error {
	names := []string{fragmentFile}
	for _, sum := range st.Sums() {
		names = append(names, path.Join(objectsDir, sum))
	}
	for _, name := range names {
		if err := exportFile(ctx, t, filepath.Join(dir, name), name); err != nil {
			return err
		}
	}
	return nil
}

func exportFile(ctx context.Context, t *tar.Writer, file, name string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	head := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: info.Size(), Mode: 0o644, ModTime: time.Unix(build.Epoch, 0), Format: tar.FormatUSTAR}
	if err := t.WriteHeader(head); err != nil {
		return err
	}
	_, err = io.Copy(t, &interruptible{ctx, f})
	return err
}

// unpackExport reads an export into a folder of the form of a part: json and
// those objects that keep wants. Names are checked, contents are not.
func unpackExport(ctx context.Context, file, dir string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := plain(bufio.NewReaderSize(&interruptible{ctx, f}, 256<<10))
	if err != nil {
		return err
	}
	t := tar.NewReader(r)
	for {
		head, err := t.Next()
		if err == io.EOF {
			_, err = io.Copy(io.Discard, r) // to gzip's checksum
			return err
		}
		if err != nil {
			return err
		}
		if err := unpackMember(t, head, dir); err != nil {
			return err
		}
	}
}

// plain takes gzip off, if it is there.
func plain(r *bufio.Reader) (io.Reader, error) {
	magic, err := r.Peek(2)
	if err != nil {
		return nil, err
	}
	if magic[0] == 0x1f && magic[1] == 0x8b {
		return gzip.NewReader(r)
	}
	return r, nil
}

// unpackMember writes the state or an object; other members are none of ours.
func unpackMember(r io.Reader, head *tar.Header, dir string) error {
	name := path.Base(head.Name)
	limit := int64(1) << 40
	switch {
	case head.Typeflag != tar.TypeReg:
		return nil
	case path.Clean(head.Name) == fragmentFile:
		limit = canon.MaxSize
	case path.Base(path.Dir(head.Name)) == objectsDir && state.IsSum(name):
		name = path.Join(objectsDir, name)
	default:
		return nil
	}
	if head.Size > limit {
		return fault.New(fault.BadInput, "member %s has %d bytes, at most %d are taken", head.Name, head.Size, limit)
	}
	f, err := os.Create(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(f, r); err != nil {
		return err
	}
	return f.Close()
}

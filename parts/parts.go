// Package parts takes named files into a build that no package has: a vendor's first boot
// stages, kernel or tools. Each is known by its digest, so that a build with it can be
// repeated (docs/targets.md).
package parts

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/ctxio"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/sbom"
)

// File is the step that takes a file whose digest must be right. Its output is [Name].
type File struct {
	// Part is the name of the part.
	Part string
	// SHA256 is the digest in lower-case hexadecimal.
	SHA256 string
	// Path is where the file is on this machine.
	Path string `json:"-"`
}

// Supplies is the file. Who made it, and under which licence, nobody has said.
func (f *File) Supplies(func(build.Step) string) ([]sbom.Supply, error) {
	p := sbom.Package{Name: f.Part, Purpose: sbom.Firmware, SHA256: f.SHA256}
	return []sbom.Supply{{Package: p}}, nil
}

// maxSize bounds a part, in bytes: it is read whole before a build begins.
const maxSize = 1 << 30

// Name is the file's name in the output.
const Name = "part"

var (
	_ build.Step    = (*File)(nil)
	_ build.Sourced = (*File)(nil)
)

// Name is "part/" and the name of the part.
func (f *File) Name() string { return "part/" + f.Part }

// Deps is empty.
func (f *File) Deps() []build.Step { return nil }

// Sources is the file.
func (f *File) Sources() ([]build.Source, error) {
	info, err := os.Stat(f.Path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, fault.New(fault.Missing, "part %s: there is no file %s", f.Part, f.Path)
	case err != nil:
		return nil, fault.Wrap(fault.IO, err, "part %s", f.Part)
	case !info.Mode().IsRegular(): // a pipe would be waited for, a directory read whole
		return nil, fault.New(fault.BadInput, "part %s: %s is not a regular file", f.Part, f.Path)
	case info.Size() == 0:
		return nil, fault.New(fault.BadInput, "part %s: %s is empty", f.Part, f.Path)
	case info.Size() > maxSize:
		return nil, fault.New(fault.BadInput, "part %s: %s has %d bytes; at most %d are allowed", f.Part, f.Path, info.Size(), maxSize)
	}
	return []build.Source{{Name: "part " + f.Part, Path: f.Path}}, nil
}

// Run copies the file and checks its digest.
func (f *File) Run(ctx context.Context, w *build.Work) error {
	to := filepath.Join(w.Out, Name)
	out, err := os.Create(to)
	if err != nil {
		return fault.Wrap(fault.IO, err, "part %s", f.Part)
	}
	defer out.Close()
	if err := f.copy(ctx, out); err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return fault.Wrap(fault.IO, err, "part %s", f.Part)
	}
	epoch := time.Unix(build.Epoch, 0)
	return fault.Wrap(fault.IO, os.Chtimes(to, epoch, epoch), "part %s", f.Part)
}

// Check finds what is wrong with the file without taking it.
func (f *File) Check(ctx context.Context) error {
	if _, err := f.Sources(); err != nil {
		return err
	}
	return f.copy(ctx, io.Discard)
}

// copy writes the file to w and compares its digest.
func (f *File) copy(ctx context.Context, w io.Writer) error {
	in, err := os.Open(f.Path)
	if err != nil {
		return fault.Wrap(fault.Missing, err, "part %s", f.Part)
	}
	defer in.Close()
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(w, sum), ctxio.Reader(ctx, in)); err != nil {
		return fault.Wrap(fault.IO, err, "part %s", f.Part)
	}
	if got := fmt.Sprintf("%x", sum.Sum(nil)); got != f.SHA256 {
		return fault.New(fault.Digest, "part %s: %s has the SHA-256 %s, not %s: it is another file, or it was changed", f.Part, f.Path, got, f.SHA256)
	}
	return nil
}

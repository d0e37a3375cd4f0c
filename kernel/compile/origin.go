package compile

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/debian/deb"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/filecopy"
)

// archiveFile is the name of the source's tarball below /build.
const archiveFile = "source.tar"

// unpackArchive unpacks the tarball, compressed or not, whose members are in one directory.
func unpackArchive(ctx context.Context, c *Step, w *build.Work, dir string) error {
	args := []string{"tar", "--no-same-owner", "--strip-components=1", "-C", treeDir, "-xf", "/build/" + archiveFile}
	if err := c.run(ctx, w, dir, nil, args...); err != nil {
		return fault.Wrap(fault.BadInput, err, "unpacking the kernel's source")
	}
	return fault.Wrap(fault.IO, os.Remove(filepath.Join(dir, archiveFile)), "unpacking the kernel's source")
}

// Package is Debian's package linux-source-VERSION: a tarball with Debian's patches
// applied.
type Package struct{ Package *debian.Fetch }

// Deps is the package.
func (o Package) Deps() []build.Step { return []build.Step{o.Package} }

// Sources is empty.
func (o Package) Sources() ([]build.Source, error) { return nil, nil }

// Unpack unpacks the package and the tarball in it.
func (o Package) Unpack(ctx context.Context, c *Step, w *build.Work, dir string) error {
	place := func(name string) string {
		if ok, _ := filepath.Match("usr/src/linux-source-*.tar.*", name); ok {
			return archiveFile
		}
		return ""
	}
	x := deb.Extract{Keep: func(name string) bool { return place(name) != "" }, Place: place}
	if err := o.Package.ExtractTo(ctx, w, dir, x); err != nil {
		return err
	}
	return unpackArchive(ctx, c, w, dir)
}

// Archive is a tarball, compressed or not, that has the tree in one directory.
type Archive struct {
	Step build.Step
	// File is its path in the output of Step.
	File string
}

// Deps is the part.
func (o Archive) Deps() []build.Step { return []build.Step{o.Step} }

// Sources is empty.
func (o Archive) Sources() ([]build.Source, error) { return nil, nil }

// Unpack unpacks the tarball.
func (o Archive) Unpack(ctx context.Context, c *Step, w *build.Work, dir string) error {
	from := filepath.Join(w.In(o.Step), filepath.FromSlash(o.File))
	if err := filecopy.Link(ctx, filepath.Join(dir, archiveFile), from); err != nil {
		return fault.Wrap(fault.IO, err, "copying the kernel's source")
	}
	return unpackArchive(ctx, c, w, dir)
}

// Tree is a directory of the user.
type Tree struct {
	// Name is what keys and messages call it, Path is where it is.
	Name, Path string
}

// Deps is empty.
func (o Tree) Deps() []build.Step { return nil }

// Sources are the files and directories at the top of the tree, but those of version control:
// what they record does not change the kernel.
func (o Tree) Sources() ([]build.Source, error) {
	entries, err := os.ReadDir(o.Path)
	if err != nil {
		return nil, fault.New(fault.Missing, "reading the kernel's source (kernel.dir): %w", err)
	}
	var out []build.Source
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".git") {
			out = append(out, build.Source{Name: o.Name + "/" + e.Name(), Path: filepath.Join(o.Path, e.Name())})
		}
	}
	return out, nil
}

// Unpack copies the tree and removes what an earlier build left in it.
func (o Tree) Unpack(ctx context.Context, c *Step, w *build.Work, dir string) error {
	entries, err := o.Sources()
	for _, e := range entries {
		err = errors.Join(err, copyEntry(ctx, filepath.Join(dir, treeDir, filepath.Base(e.Path)), e.Path))
	}
	if err != nil {
		return fault.Wrap(fault.IO, err, "copying the kernel's source")
	}
	if err := c.make(ctx, w, dir, "mrproper"); err != nil {
		return fault.Wrap(fault.BadInput, err, "cleaning the copy of the kernel's source")
	}
	return nil
}

// copyEntry copies a file or a directory. Links at the top of a tree are followed.
func copyEntry(ctx context.Context, to, from string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return build.CopyTree(ctx, to, from)
	}
	return build.CopyFile(ctx, to, from)
}

package inputs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/internal/ctxio"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/sbom"
)

// fileStep is the step that takes a file of the list. What is copied has the digest that was
// read before: a file that changes meanwhile is an error.
type fileStep struct {
	Input, SHA256 string
	// To is the name in the output.
	To string
	// Program is set for one that can be executed.
	Program bool `json:",omitempty"`
	path    string
}

var _ build.Step = (*fileStep)(nil)

// file returns a file of the list as the output of a step.
func (l *List) file(input string, f File) images.Artefact {
	return l.take(&fileStep{Input: input}, f)
}

// program returns a program of the list as the output of a step.
func (l *List) program(input string, f File) images.Artefact {
	return l.take(&fileStep{Input: input, Program: true}, f)
}

func (l *List) take(step *fileStep, f File) images.Artefact {
	step.SHA256, step.To, step.path = f.SHA256, "file", l.place(f.Path)
	return images.Artefact{Step: step, File: step.To}
}

// Name is "input/" and the place in the list.
func (f *fileStep) Name() string { return stepName(f.Input) }

// Deps is empty.
func (f *fileStep) Deps() []build.Step { return nil }

// Run copies the file and checks its digest.
func (f *fileStep) Run(ctx context.Context, w *build.Work) error {
	to := filepath.Join(w.Out, f.To)
	if err := take(ctx, to, f.path, f.SHA256); err != nil {
		return origin{f.Input, f.path, "a file"}.wrong(err)
	}
	if !f.Program {
		return nil
	}
	return fault.Wrap(fault.IO, os.Chmod(to, 0o755), "taking %s", f.Input)
}

// Supplies is the file.
func (f *fileStep) Supplies(func(build.Step) string) ([]sbom.Supply, error) {
	return []sbom.Supply{{Package: sbom.Package{Name: f.Input, SHA256: f.SHA256}}}, nil
}

// take copies a file that must have a digest.
func take(ctx context.Context, to, from, digest string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(out, sum), ctxio.Reader(ctx, in)); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != digest {
		return changed(from)
	}
	epoch := time.Unix(build.Epoch, 0)
	return errors.Join(out.Close(), os.Chtimes(to, epoch, epoch))
}

func changed(what string) error {
	return fault.New(fault.Digest, "%s was changed while it was read", what)
}

// treeStep is the step that takes a directory of the list, or unpacks an archive. Owners and
// devices are left out.
type treeStep struct {
	Input, SHA256 string
	// Place is where in the output the tree goes. Default: to its root.
	Place string `json:",omitempty"`
	tree  Tree
	path  string
}

var _ build.Step = (*treeStep)(nil)

func (l *List) tree(input string, t Tree) *treeStep {
	return &treeStep{Input: input, SHA256: t.SHA256, tree: t, path: l.place(t.Path)}
}

func (l *List) directory(input string, path, sum string) *treeStep {
	return l.tree(input, Tree{Form: "directory", Path: path, SHA256: sum})
}

// Name is "input/" and the place in the list.
func (s *treeStep) Name() string { return stepName(s.Input) }

// Deps is empty.
func (s *treeStep) Deps() []build.Step { return nil }

// Run copies or unpacks the tree.
func (s *treeStep) Run(ctx context.Context, w *build.Work) error {
	out := filepath.Join(w.Out, filepath.FromSlash(s.Place))
	if err := os.MkdirAll(out, 0o755); err != nil {
		return fault.Wrap(fault.IO, err, "taking %s", s.Input)
	}
	return s.origin().wrong(s.unpack(ctx, out))
}

// Supplies is the tree; the SHA-256 of a directory is that of its content.
func (s *treeStep) Supplies(func(build.Step) string) ([]sbom.Supply, error) {
	return []sbom.Supply{{Package: sbom.Package{Name: s.Input, SHA256: s.SHA256}, Tree: true}}, nil
}

func (s *treeStep) origin() origin { return origin{s.Input, s.path, wants(s.Input, s.tree.Form)} }

func (s *treeStep) unpack(ctx context.Context, out string) error {
	switch s.tree.Form {
	case "directory":
		if err := build.CopyTree(ctx, out, s.path); err != nil {
			return err
		}
		return unchangedTree(s.path, s.SHA256)
	case "tar":
		return unpackTar(ctx, out, s.path, s.SHA256)
	case "squashfs":
		return unpackSquashfs(ctx, out, s.path, s.SHA256)
	}
	return fault.New(fault.Unsupported, "a tree in the form %s", s.tree.Form)
}

// Reader is a step that reads inputs of a list itself.
type Reader interface {
	// Reads returns their places in the list.
	Reads() []string
}

// Reads is the file's place in the list.
func (f *fileStep) Reads() []string { return []string{f.Input} }

// Reads is the tree's place in the list.
func (s *treeStep) Reads() []string { return []string{s.Input} }

// Reads is the export's place in the list.
func (s *exportStep) Reads() []string { return []string{s.Input} }

// Reads is the place of the root file system in the list.
func (s *containerStep) Reads() []string { return []string{s.Input} }

// Reads is the place of the modules in the list.
func (k *kernelTree) Reads() []string {
	if k.Modules == nil {
		return nil
	}
	return k.Modules.Reads()
}

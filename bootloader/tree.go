package bootloader

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Copy is the step that makes a tree of one file, for a partition that firmware reads.
type Copy struct {
	// To is its path in the tree, with slashes.
	To   string
	File File `json:"-"`
	// From is the path in the output of the file's step.
	From string
}

var _ build.Step = (*Copy)(nil)

// NewCopy returns the step that makes a tree with a file at the path to.
func NewCopy(to string, file File) *Copy { return &Copy{To: to, File: file, From: file.Path} }

// Name is "bootloader/copy/" and the path in lower case.
func (c *Copy) Name() string { return "bootloader/copy/" + strings.ToLower(c.To) }

// Deps is the file.
func (c *Copy) Deps() []build.Step { return []build.Step{c.File.Step} }

// Run writes the tree.
func (c *Copy) Run(ctx context.Context, w *build.Work) error {
	from, to := filepath.Join(w.In(c.File.Step), filepath.FromSlash(c.File.Path)), filepath.Join(w.Out, filepath.FromSlash(c.To))
	if _, err := os.Stat(from); err != nil {
		return fault.New(fault.Missing, "copying %s: %w", c.To, err)
	}
	err := os.MkdirAll(filepath.Dir(to), 0o755)
	if err == nil {
		err = build.CopyFile(ctx, to, from)
	}
	if err == nil {
		epoch := time.Unix(build.Epoch, 0)
		err = errors.Join(os.Chmod(to, 0o644), os.Chtimes(to, epoch, epoch))
	}
	return fault.Wrap(fault.IO, err, "copying %s", c.To)
}

// WriteTree writes the files of a loader's step below out, by their paths with slashes, with
// the time [build.Epoch].
func WriteTree(out string, files map[string][]byte) error {
	epoch := time.Unix(build.Epoch, 0)
	for name, data := range files {
		file := filepath.Join(out, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return fault.Wrap(fault.IO, err, "writing %s", name)
		}
		if err := os.WriteFile(file, data, 0o644); err != nil {
			return fault.Wrap(fault.IO, err, "writing %s", name)
		}
		if err := os.Chtimes(file, epoch, epoch); err != nil {
			return fault.Wrap(fault.IO, err, "writing %s", name)
		}
	}
	return nil
}

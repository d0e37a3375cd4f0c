package compile

import (
	"context"
	"os"
	"path/filepath"

	"github.com/pantavisor/pantavisor/build"
)

// Unpack makes the tree in a directory.
func (c *Step) Unpack(ctx context.Context, w *build.Work, dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, treeDir), 0o755); err != nil {
		return err
	}
	return c.Source.Unpack(ctx, c, w, dir)
}

// Configure makes the configuration of the tree in a directory.
func (c *Step) Configure(ctx context.Context, w *build.Work, dir string) error {
	return c.configure(ctx, w, dir)
}

package repo

import (
	"context"
	"io"

	"github.com/pantavisor/pantavisor/revision/archive"
)

// Export writes the committed state and its objects as an archive. Without a
// repository the archive is empty.
func (r *Repo) Export(ctx context.Context, w io.Writer, opt archive.ExportOptions) error {
	if r.none {
		return archive.Export(ctx, w, r.committed, nil, opt)
	}
	store, err := r.Objects()
	if err != nil {
		return err
	}
	return archive.Export(ctx, w, r.committed, store, opt)
}

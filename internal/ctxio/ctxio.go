// Package ctxio provides readers that stop when a context ends.
package ctxio

import (
	"context"
	"io"
)

// Reader returns a reader that reads r until ctx ends, and then fails with the
// context's error. A Read that has begun is not interrupted.
func Reader(ctx context.Context, r io.Reader) io.Reader { return &reader{ctx, r} }

type reader struct {
	ctx context.Context
	r   io.Reader
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

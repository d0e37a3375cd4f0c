package images

import (
	"context"
	"io"
	"os"
	"path/filepath"

	"github.com/pantavisor/pantavisor/formats/xzenc"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// window bounds the memory of the kernel's decoder to 8 MiB, and that for compression to
// about 100 MiB.
const window = 8 << 20

// compress makes an xz stream for the kernel's decoder: CRC32 and, for x86 code, the branch
// filter.
func compress(ctx context.Context, src, dst string, x86 bool) (err error) {
	defer func() { err = fault.Wrap(fault.IO, err, "compressing %s", filepath.Base(src)) }()
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(dst)
	if err != nil {
		return err
	}
	defer out.Close()
	xz, err := xzenc.NewWriter(ctx, out, xzenc.Options{Effort: xzenc.Strong, X86: x86, Window: window, Workers: 1})
	if err != nil {
		return err
	}
	if _, err := io.Copy(xz, in); err != nil {
		return err
	}
	if err := xz.Close(); err != nil {
		return err
	}
	return out.Close()
}

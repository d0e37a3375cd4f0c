package images

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/pantavisor/pantavisor/formats/xzenc"
	"github.com/pantavisor/pantavisor/internal/fault"
)

const (
	// window bounds the memory of the kernel's decoder to 4 MiB. Twice as much makes modules 0.1 %
	// smaller.
	window = 4 << 20
	// compressing is the memory that compress needs, in bytes: ten times the window, a block, and
	// what becomes of it.
	compressing = 10*window + xzBlock + xzBlock/4
	// xzBlock is how much is compressed by itself, in bytes.
	xzBlock = 16 << 20
)

// content is what an archive of the initrd mostly holds.
type content int

const (
	text      content = iota
	x86Code           // has relative branches, which are filtered
	otherCode         // has instructions of four bytes
)

// codeFor returns the content of programs and modules.
func codeFor(x86 bool) content {
	if x86 {
		return x86Code
	}
	return otherCode
}

// compress makes an xz stream for the kernel's decoder, which knows CRC32 only.
func compress(ctx context.Context, src, dst string, c content) (err error) {
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
	info, err := in.Stat()
	if err != nil {
		return err
	}
	debug.FreeOSMemory() // what other steps have left behind
	xz, err := xzenc.NewWriter(ctx, out, xzenc.Options{
		Effort: xzenc.Strong, X86: c == x86Code, Words: c == otherCode, Window: window, Workers: 1,
		Block: int(min(xzBlock, max(info.Size(), 1))), // no more memory than its content
	})
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

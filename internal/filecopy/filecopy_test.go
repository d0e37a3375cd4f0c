package filecopy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const sparseSize = 64<<20 + 3

// sparse makes a file with a few bytes of data at its begin, in it and at its end.
func sparse(t *testing.T, dir string) string {
	t.Helper()
	name := filepath.Join(dir, "sparse")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{0, 10 << 20, sparseSize - 4} {
		if _, err := f.WriteAt([]byte("data"), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return name
}

func same(t *testing.T, a, b string) {
	t.Helper()
	x, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := os.ReadFile(b)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(x, y) {
		t.Errorf("%s and %s differ", a, b)
	}
}

func TestFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	from, to := sparse(t, dir), filepath.Join(dir, "copy")
	if err := File(t.Context(), to, from, 0o640); err != nil {
		t.Fatal(err)
	}
	same(t, from, to)
	var st unix.Stat_t
	if err := unix.Stat(to, &st); err != nil || st.Blocks*512 > 1<<20 || st.Mode&0o777 != 0o640 {
		t.Errorf("%d bytes on the disk, mode %#o, %v", st.Blocks*512, st.Mode, err)
	}
	if err := File(t.Context(), to, from, 0o640); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over another file: %v, want %v", err, fs.ErrExist)
	}
	same(t, from, to)
}

func TestFileLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		from string
		want error
	}{
		"cancelled": {ctx, sparse(t, dir), context.Canceled},
		"directory": {t.Context(), dir, unix.EISDIR},
		"none":      {t.Context(), filepath.Join(dir, "none"), fs.ErrNotExist},
	} {
		to := filepath.Join(dir, "copy")
		if err := File(c.ctx, to, c.from, 0o600); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v, want no copy left", name, err)
		}
	}
}

// A copy that began ends with its context, in the middle of an extent too.
func TestSpanEndsWithContext(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	src, err := os.Open(sparse(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := os.Create(filepath.Join(dir, "copy"))
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	if err := span(&endsAfter{t.Context(), 2}, dst, src, 0, sparseSize); !errors.Is(err, context.Canceled) {
		t.Errorf("span: %v, want %v", err, context.Canceled)
	}
	if info, err := dst.Stat(); err != nil || info.Size() != 2*chunk {
		t.Errorf("%d bytes copied, %v, want two pieces", info.Size(), err)
	}
	if err := span(t.Context(), dst, src, 0, sparseSize+1); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a file that was cut: %v, want %v", err, io.ErrUnexpectedEOF)
	}
}

// endsAfter is a context that ends after it was asked a number of times.
type endsAfter struct {
	context.Context
	left int
}

func (e *endsAfter) Err() error {
	if e.left--; e.left < 0 {
		return context.Canceled
	}
	return nil
}

func TestLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	from, to := sparse(t, dir), filepath.Join(dir, "other")
	if err := Link(t.Context(), to, from); err != nil {
		t.Fatal(err)
	}
	a, err := os.Stat(from)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.Stat(to); err != nil || !os.SameFile(a, b) {
		t.Errorf("%v: want another name", err)
	}
	if err := Link(t.Context(), to, from); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over another file: %v, want %v", err, fs.ErrExist)
	}
	copied := filepath.Join(dir, "copied")
	if err := Link(t.Context(), copied, "/proc/self/exe"); err != nil { // of another file system
		t.Fatal(err)
	}
	same(t, "/proc/self/exe", copied)
}

func TestExtents(t *testing.T) {
	t.Parallel()
	f, err := os.Open(sparse(t, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var starts []int64
	end := int64(0)
	err = Extents(f, sparseSize, func(from, to int64) error {
		if from < end || to <= from || to > sparseSize {
			t.Errorf("%d to %d behind %d", from, to, end)
		}
		starts, end = append(starts, from>>20), to
		return nil
	})
	if err != nil || end != sparseSize {
		t.Errorf("the end is %d, %v", end, err)
	}
	if diff := cmp.Diff([]int64{0, 10, 63}, starts); diff != "" && len(starts) > 1 { // one range where holes are not reported
		t.Errorf("in MiB: %s", diff)
	}
	stop := errors.New("stop")
	if err := Extents(f, sparseSize, func(int64, int64) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v, want %v", err, stop)
	}
}

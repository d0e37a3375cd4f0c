package squashfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/formats/tree"
)

// edges are entries at the exact limits of their fields. What the kernel does not give
// back as it was added is beyond the limit.
func edges() []tree.Entry {
	name := strings.Repeat("n", 256)
	many := file("xattr", 0o644, []byte("x"))
	many.Xattrs = map[string][]byte{"user." + strings.Repeat("a", 250): make([]byte, 65536), "trusted.t": {}}
	entries := []tree.Entry{
		many,
		{Name: name, Mode: fs.ModeDir | 0o755},
		file(name+"/"+strings.Repeat("m", 256), 0o644, []byte("deep")),
		{Name: "longest link", Mode: fs.ModeSymlink | 0o777, Link: strings.Repeat("t", 4095)},
		{Name: "highest device", Mode: fs.ModeDevice | 0o600, Major: 4095, Minor: 1<<20 - 1},
		{Name: "highest owner", Mode: fs.ModeDir | 0o700, UID: math.MaxUint32 - 1, GID: math.MaxUint32 - 1},
	}
	for i, seconds := range []int64{0, math.MaxInt32, math.MaxInt32 + 1, math.MaxUint32} {
		e := file(fmt.Sprintf("time %d", i), 0o644, nil)
		e.ModTime = time.Unix(seconds, 0)
		entries = append(entries, e)
	}
	for _, n := range []int{255, 256, 257, 513} { // around the names behind one header
		for i := range n {
			entries = append(entries, file(fmt.Sprintf("names %d/%d", n, i), 0o600, nil))
		}
	}
	// Listings around one block of metadata: a header has 12 bytes, an entry 8 and its name.
	for _, over := range []int{-1, 0, 1} {
		for i := range 30 {
			entries = append(entries, file(fmt.Sprintf("block %d/%02d%s", over, i, strings.Repeat("x", 254)), 0o600, nil))
		}
		rest := metadataSize - dirHeader - 30*(dirEntry+256) - dirEntry
		entries = append(entries, file(fmt.Sprintf("block %d/%s", over, strings.Repeat("z", rest+over)), 0o600, nil))
	}
	return entries
}

func TestKernelReadsTheEdges(t *testing.T) {
	entries := edges()
	dir := mount(t, writeImage(t, Options{}, addAll(entries)))
	for _, e := range entries {
		compareEntry(t, dir, e)
	}
	for name, size := range map[string]int{"user." + strings.Repeat("a", 250): 65536, "trusted.t": 0} {
		value := make([]byte, 65536)
		if n, err := unix.Lgetxattr(filepath.Join(dir, "xattr"), name, value); err != nil || n != size {
			t.Errorf("attribute of %d bytes: %d, %v", size, n, err)
		}
	}
}

// TestOwnersAtTheLimit has as many different owners as the field takes, with directories
// that nobody added, which belong to root.
func TestOwnersAtTheLimit(t *testing.T) {
	const most = 65535
	add := func(owners, first uint32) func(*Writer) error {
		return func(w *Writer) error {
			for i := range owners {
				e := tree.Entry{Name: fmt.Sprintf("%d/%d", i/1000, i), Mode: fs.ModeNamedPipe, UID: i + first, GID: i + first}
				if err := w.Add(context.Background(), e); err != nil {
					return err
				}
			}
			return nil
		}
	}
	dir := mount(t, writeImage(t, Options{}, add(most, 0)))
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(dir, "65/65534"), &st); err != nil || st.Uid != most-1 {
		t.Errorf("the last owner is %d, %v", st.Uid, err)
	}
	for name, add := range map[string]func(*Writer) error{"one more": add(most+1, 0), "root beside them": add(most, 1)} {
		if err := tryImage(filepath.Join(t.TempDir(), "i"), Options{}, add); err == nil || !strings.Contains(err.Error(), "65535") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBeyondTheEdges(t *testing.T) {
	xattr := func(name string, size int) tree.Entry {
		e := file("f", 0o644, nil)
		e.Xattrs = map[string][]byte{name: make([]byte, size)}
		return e
	}
	for what, e := range map[string]tree.Entry{
		"name":      file(strings.Repeat("n", 257), 0o644, nil),
		"directory": file(strings.Repeat("n", 257)+"/f", 0o644, nil),
		"link":      {Name: "l", Mode: fs.ModeSymlink | 0o777, Link: strings.Repeat("t", 4096)},
		"major":     {Name: "d", Mode: fs.ModeDevice, Major: 4096},
		"minor":     {Name: "d", Mode: fs.ModeDevice, Minor: 1 << 20},
		"owner":     {Name: "d", Mode: fs.ModeDir, UID: math.MaxUint32},
		"group":     {Name: "d", Mode: fs.ModeDir, GID: math.MaxUint32},
		"attribute": xattr("user."+strings.Repeat("a", 251), 1),
		"value":     xattr("user.a", 65537),
		"space":     xattr("system.a", 1),
	} {
		if err := tryImage(filepath.Join(t.TempDir(), "i"), Options{}, addAll([]tree.Entry{e})); err == nil {
			t.Errorf("%s beyond its limit was taken", what)
		}
	}
	many := tree.Entry{Name: "f", Xattrs: map[string][]byte{}}
	for i := range 300 {
		many.Xattrs[fmt.Sprintf("user.%03d%s", i, strings.Repeat("a", 247))] = nil
	}
	if err := tryImage(filepath.Join(t.TempDir(), "i"), Options{}, addAll([]tree.Entry{many})); err == nil {
		t.Error("attributes whose names listxattr(2) cannot return were taken")
	}
}

// pattern is content of any size: zeros with some text before and behind byte 2³².
type pattern struct{ at, size int64 }

func (p *pattern) Read(b []byte) (int, error) {
	if p.at == p.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(b)), p.size-p.at))
	clear(b[:n])
	for i, c := range "around" {
		if at := 1<<32 - 3 + int64(i) - p.at; at >= 0 && at < int64(n) {
			b[at] = byte(c)
		}
	}
	p.at += int64(n)
	return n, nil
}

func TestFilesAround4GiB(t *testing.T) {
	if testing.Short() {
		t.Skip("reads 8 GiB of zeros")
	}
	sizes := []int64{1<<32 - 1, 1 << 32}
	dir := mount(t, writeImage(t, Options{Compression: Zstd, Level: 1, BlockSize: 1 << 20}, func(w *Writer) error {
		var errs []error
		for _, size := range sizes {
			errs = append(errs, w.Add(context.Background(), tree.Entry{Name: fmt.Sprint(size), Size: size, Open: func() (io.ReadCloser, error) {
				return io.NopCloser(&pattern{size: size}), nil
			}}))
		}
		return errors.Join(errs...)
	}))
	for _, size := range sizes {
		f, err := os.Open(filepath.Join(dir, fmt.Sprint(size)))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		info, err := f.Stat()
		want := make([]byte, min(size-(1<<32-3), 6))
		copy(want, "around")
		got := make([]byte, len(want))
		if _, err2 := f.ReadAt(got, 1<<32-3); err != nil || err2 != nil || info.Size() != size || string(got) != string(want) {
			t.Errorf("%d bytes: %d with %q, %v, %v", size, info.Size(), got, err, err2)
		}
	}
}

package cpio_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os/exec"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/formats/cpio"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/oracle"
)

// zeros is content of any size.
func zeros(size int64) tree.Entry {
	return tree.Entry{Name: "zeros", Size: size, Open: func() (io.ReadCloser, error) {
		return io.NopCloser(io.LimitReader(zeroReader{}, size)), nil
	}}
}

type zeroReader struct{}

func (zeroReader) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// longPath is a path of n bytes with elements that every file system has.
func longPath(n int) string {
	path := strings.Repeat(strings.Repeat("d", 250)+"/", n/251+1)[:n]
	return strings.TrimSuffix(path, "/") + strings.Repeat("x", n-len(strings.TrimSuffix(path, "/")))
}

// edges are entries at the limits of the fields of a header, and of the kernel that reads
// them (init/initramfs.c).
func edges() []tree.Entry {
	late := tree.Bytes("late", 0o644, nil)
	late.ModTime = time.Unix(math.MaxUint32, 0)
	return []tree.Entry{
		tree.Bytes(strings.Repeat("n", 255), 0o644, nil),
		tree.Bytes(longPath(4095), 0o644, nil),
		tree.Symlink("link", longPath(4095)),
		{Name: "device", Mode: fs.ModeDevice | 0o600, Major: 4095, Minor: 1<<20 - 1},
		{Name: "owner", UID: math.MaxUint32 - 1, GID: math.MaxUint32 - 1},
		late,
	}
}

func TestEdgesAreRead(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := errors.Join(cpio.Write(&b, edges(), cpio.Options{}), cpio.WriteTrailer(&b)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(oracle.Program(t, "cpio"), "-t", "--quiet")
	cmd.Stdin = bytes.NewReader(b.Bytes())
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, name := range strings.Split(string(out), "\n") {
		listed[name] = true
	}
	r := cpio.NewReader(&b)
	got := map[string]string{}
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got[h.Name] = describe(h.Entry)
	}
	want := map[string]string{}
	for _, e := range edges() {
		want[e.Name] = describe(e)
		if !listed[e.Name] {
			t.Errorf("cpio does not list %.40q", e.Name)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func describe(e tree.Entry) string {
	return fmt.Sprintf("%v %d:%d %d:%d %d %s", e.Mode, e.UID, e.GID, e.Major, e.Minor, max(e.ModTime.Unix(), 0), e.Link)
}

func TestBeyondTheEdges(t *testing.T) {
	t.Parallel()
	for what, e := range map[string]tree.Entry{
		"name":  tree.Bytes(strings.Repeat("n", 256), 0o644, nil),
		"path":  tree.Bytes(longPath(4096), 0o644, nil),
		"link":  tree.Symlink("link", longPath(4096)),
		"major": {Name: "device", Mode: fs.ModeDevice, Major: 4096},
		"minor": {Name: "device", Mode: fs.ModeDevice, Minor: 1 << 20},
		"size":  zeros(1 << 32),
	} {
		err := cpio.Write(io.Discard, []tree.Entry{e}, cpio.Options{})
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s beyond its limit: %v", what, err)
		}
	}
	two := []tree.Entry{tree.Bytes("a", 0o644, nil), tree.Bytes("b", 0o644, nil)}
	if err := cpio.Write(io.Discard, two, cpio.Options{FirstInode: math.MaxUint32 - 1}); err != nil {
		t.Errorf("the last two inode numbers: %v", err)
	}
	if err := cpio.Write(io.Discard, two, cpio.Options{FirstInode: math.MaxUint32}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("one inode number for two files: %v", err)
	}
}

// TestLargestFile writes and reads a file of 4 GiB less one byte.
func TestLargestFile(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 4 GiB of zeros")
	}
	t.Parallel()
	const size = 1<<32 - 1
	from, to := io.Pipe()
	go func() {
		to.CloseWithError(errors.Join(cpio.Write(to, []tree.Entry{zeros(size), tree.Bytes("zz", 0o644, []byte("z"))}, cpio.Options{}), cpio.WriteTrailer(to)))
	}()
	r := cpio.NewReader(from)
	for _, want := range []int64{size, 1} {
		h, err := r.Next()
		if err != nil || h.Size != want {
			t.Fatalf("%+v, %v", h, err)
		}
		if n, err := io.Copy(io.Discard, r); err != nil || n != want {
			t.Errorf("%d bytes, %v, want %d", n, err, want)
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

// TestErrorsOfTheInput: an input that cannot be read says nothing about the format; one that ends
// does.
func TestErrorsOfTheInput(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := errors.Join(cpio.Write(&out, []tree.Entry{tree.Bytes("a", 0o644, []byte("text"))}, cpio.Options{}), cpio.WriteTrailer(&out)); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("the disk does not answer")
	for _, end := range []int{0, 50, 111, 113} { // in the header, the name, the content
		for _, c := range []struct {
			with, want error
		}{{broken, broken}, {io.EOF, cpio.ErrFormat}} {
			a := cpio.NewReader(io.MultiReader(bytes.NewReader(out.Bytes()[:end]), iotest.ErrReader(c.with)))
			_, err := a.Next()
			if err == nil {
				_, err = a.Next()
			}
			if !errors.Is(err, c.want) || errors.Is(err, cpio.ErrFormat) != errors.Is(c.with, io.EOF) {
				t.Errorf("%v after %d bytes: %v", c.with, end, err)
			}
		}
	}
}

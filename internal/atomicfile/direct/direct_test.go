package direct

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// content is pseudo-random, so that no piece can stand for another.
func content(n int) []byte {
	out := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(out)
	return out
}

func create(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

var sizes = []int{0, 1, align, Block - 1, Block, Block + 1, 3 * Block, 3*Block + align, 3*Block + 4321, 4*Block - align, 4*Block - 1}

// steps are the pieces that a file is written and read in.
var steps = []int{777, align, Block, 2*Block + 5}

func TestWriteAndRead(t *testing.T) {
	for _, size := range sizes {
		for _, step := range steps {
			if size/step > 2000 {
				continue
			}
			f := create(t)
			want := content(size)
			write(t, f, want, step)
			text, err := os.ReadFile(f.Name())
			if err != nil || !bytes.Equal(text, want) {
				t.Fatalf("%d bytes written by %d: %d bytes, %v", size, step, len(text), err)
			}
			for _, cold := range []bool{false, true} {
				if got := read(t, f.Name(), step, cold); !bytes.Equal(got, want) {
					t.Errorf("%d bytes read by %d, cold %v: %d bytes that differ", size, step, cold, len(got))
				}
			}
		}
	}
}

func write(t *testing.T, f *os.File, text []byte, step int) {
	t.Helper()
	w := NewWriter(f)
	for len(text) > 0 {
		n := min(step, len(text))
		if m, err := w.Write(text[:n]); m != n || err != nil {
			t.Fatalf("%d bytes of %d, %v", m, n, err)
		}
		text = text[n:]
	}
	if err := errors.Join(w.Flush(), w.Flush()); err != nil {
		t.Fatal(err)
	}
	if isOn(t, f) {
		t.Error("the file is left in another mode")
	}
}

// read reads a file in pieces; a cold one is dropped from the page cache before.
func read(t *testing.T, name string, step int, cold bool) []byte {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if cold {
		if err := errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)); err != nil {
			t.Fatal(err)
		}
	}
	var out []byte
	r := NewReader(f)
	buf := Buffer()
	defer Release(buf)
	for {
		n, err := r.Read((*buf)[:min(step, Block)])
		out = append(out, (*buf)[:n]...)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func isOn(t *testing.T, f *os.File) bool {
	t.Helper()
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		t.Fatal(err)
	}
	return flags&unix.O_DIRECT != 0
}

// A large file goes round the page cache where the file system can, a small one
// never does.
func TestGoesRoundTheCache(t *testing.T) {
	f := create(t)
	if err := setFlag(f, true); err != nil {
		t.Skipf("the file system of the temporary directory: %v", err)
	}
	if err := setFlag(f, false); err != nil {
		t.Fatal(err)
	}
	w := NewWriter(f)
	if _, err := w.Write(content(100)); err != nil || isOn(t, f) {
		t.Errorf("a small piece: %v, direct %v", err, isOn(t, f))
	}
	if _, err := w.Write(content(2 * Block)); err != nil || !isOn(t, f) {
		t.Errorf("a large piece: %v, direct %v", err, isOn(t, f))
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	g, err := os.Open(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	var fs unix.Statfs_t
	err = errors.Join(g.Sync(), unix.Fadvise(int(g.Fd()), 0, 0, unix.FADV_DONTNEED), unix.Fstatfs(int(g.Fd()), &fs))
	if err != nil {
		t.Fatal(err)
	}
	r := NewReader(g)
	if inMemory := fs.Type == unix.TMPFS_MAGIC; r.on == inMemory {
		t.Errorf("in memory %v, direct %v", inMemory, r.on)
	}
	if _, err := io.ReadFull(r, make([]byte, 10)); err != nil || isOn(t, g) {
		t.Errorf("reading ten bytes: %v, direct %v", err, isOn(t, g))
	}
}

// A pipe, where neither is possible, works.
func TestPipe(t *testing.T) {
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	go func() {
		w := NewWriter(out)
		_, _ = w.Write(content(3 * Block))
		_ = w.Flush()
		_ = out.Close()
	}()
	text, err := io.ReadAll(NewReader(in))
	if err != nil || !bytes.Equal(text, content(3*Block)) {
		t.Errorf("%d bytes, %v", len(text), err)
	}
}

// A full disk is an error, and the number of bytes is right.
func TestFullDevice(t *testing.T) {
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer f.Close()
	w := NewWriter(f)
	if n, err := w.Write(content(Block + 1)); n > Block || !errors.Is(err, unix.ENOSPC) {
		t.Errorf("%d, %v", n, err)
	}
	w = NewWriter(f)
	if n, err := w.Write(content(10)); n != 10 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if err := w.Flush(); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("what is held was lost: %v", err)
	}
}
